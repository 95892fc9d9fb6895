from __future__ import annotations

import time
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from foreshard.planning.cover import TOLERANCE, cover, without_needless
from foreshard.planning.view import Floats, Indexes, Sizes

TINY = TOLERANCE / 2

seeds = st.integers(0, 2**32 - 1)


def a_shard(
    random: np.random.Generator, buckets: int, resources: int = 3, steps: int = 48
) -> tuple[Floats, Sizes]:
    """Parts of capacity (buckets, resources x steps) with daily curves, and bytes."""
    hour = np.arange(steps) * 24 / steps
    base = random.lognormal(0, 1, (buckets, 1, 1)) * random.lognormal(0, 0.5, (buckets, resources, 1))
    peak, swing = random.normal(14, 3, (buckets, 1, 1)), random.uniform(0.2, 0.9, (buckets, 1, 1))
    load = base * (1 + swing * np.cos(2 * np.pi * (hour - peak) / 24))
    load *= random.gamma(50, 1 / 50, load.shape)
    together = load.sum(axis=0).max(axis=1)
    parts = load / (together / random.uniform(0.7, 1.25, resources))[:, None]
    sizes = base[:, 0, 0] ** random.uniform(0, 1) * random.lognormal(20, 1, buckets)
    return parts.reshape(buckets, -1), sizes.astype(np.int64)


@st.composite
def problems(draw: st.DrawFn, most: int = 12) -> tuple[Floats, Floats, Sizes]:
    """Small ones with edges: no load, no size, no need, the same bucket twice, needs that all of them just meet."""
    random = np.random.default_rng(draw(seeds))
    buckets, cells = draw(st.integers(1, most)), draw(st.integers(1, 5))
    parts = random.integers(0, 5, (buckets, cells)) / draw(st.sampled_from([4.0, 7.0, 40.0]))
    parts[draw(st.integers(0, buckets - 1))] = parts[0]
    need = parts.sum(axis=0) * draw(st.sampled_from([0.2, 0.5, 0.9, 1.0, 1.1]))
    need[draw(st.integers(0, cells - 1))] -= draw(st.sampled_from([0.0, 0.5]))
    sizes = random.integers(0, 6, buckets) * draw(st.sampled_from([1, 10**9]))
    return parts, need, sizes


def met(rows: Indexes, parts: Floats, need: Floats) -> bool:
    return bool((parts[rows].sum(axis=0) >= need - TOLERANCE - TINY).all())


def least_bytes(parts: Floats, need: Floats, sizes: Sizes) -> int | None:
    """By trying all subsets."""
    every = np.arange(len(sizes))
    subsets = (
        np.array(rows, np.intp) for many in range(len(sizes) + 1) for rows in combinations(every, many)
    )
    return min((int(sizes[rows].sum()) for rows in subsets if met(rows, parts, need)), default=None)


@given(problems())
def test_a_cover_meets_every_need_and_nothing_of_it_can_be_left_out(
    problem: tuple[Floats, Floats, Sizes],
) -> None:
    parts, need, sizes = problem
    rows = cover(parts, need, sizes)
    if rows is None:
        assert (parts.sum(axis=0) < need - TOLERANCE + TINY).any()
        return
    assert len(set(rows.tolist())) == len(rows)
    assert met(rows, parts, need)
    for row in rows:
        assert (parts[rows[rows != row]].sum(axis=0) < need - TOLERANCE + TINY).any()


@given(problems())
def test_the_same_problem_has_the_same_cover(problem: tuple[Floats, Floats, Sizes]) -> None:
    one, other = cover(*problem), cover(*(values.copy() for values in problem))
    assert (one is None) == (other is None)
    assert one is None or other is None or one.tolist() == other.tolist()


@given(problems(most=8))
@settings(max_examples=50, deadline=None)
def test_small_covers_are_close_to_the_fewest_bytes(problem: tuple[Floats, Floats, Sizes]) -> None:
    parts, need, sizes = problem
    rows, least = cover(parts, need, sizes), least_bytes(parts, need, sizes)
    assert (rows is None) == (least is None)
    assert rows is None or least is None or sizes[rows].sum() <= 1.5 * least


@given(problems(), st.floats(0, 2))
def test_a_target_takes_what_it_has_room_for_and_no_more(
    problem: tuple[Floats, Floats, Sizes], share: float
) -> None:
    parts, need, sizes = problem
    brings = parts[:, ::-1] / 2
    room = brings.sum(axis=0) * share
    rows = cover(parts, need, sizes, room, brings)
    if rows is not None and len(rows):
        assert met(rows, parts, need)
        assert (brings[rows].sum(axis=0) <= room + TOLERANCE + TINY).all()


def test_a_full_target_gets_those_that_bring_little() -> None:
    parts = np.array([[0.2], [0.1], [0.1]])
    need, sizes = np.array([0.2]), np.array([10, 100, 100])
    brings, room = np.array([[0.3], [0.1], [0.1]]), np.array([0.2])
    assert cover(parts, need, sizes) is not None
    found = cover(parts, need, sizes, room, brings)
    assert found is not None
    assert found.tolist() == [1, 2]
    assert cover(parts, need, sizes, room / 2, brings) is None


def test_those_that_take_less_room_are_tried_when_bytes_lead_nowhere() -> None:
    parts = np.array([[0.11], [0.11], [0.1], [0.1]])
    need, sizes = np.array([0.2]), np.array([1, 1, 100, 100])
    brings, room = np.array([[0.3], [0.3], [0.2], [0.2]]), np.array([0.4])
    found = cover(parts, need, sizes, room, brings)
    assert found is not None
    assert sorted(found.tolist()) == [2, 3]


def test_nothing_is_moved_where_nothing_is_needed() -> None:
    found = cover(np.ones((2, 2)), np.array([0.0, -1.0]), np.array([1, 2]))
    assert found is not None
    assert found.tolist() == []


def test_without_buckets_there_is_no_relief() -> None:
    assert cover(np.zeros((0, 2)), np.array([0.1, -1.0]), np.zeros(0, np.int64)) is None


def test_best_relief_per_byte_comes_first() -> None:
    parts = np.array([[0.1], [0.0], [0.1], [0.1]])
    found = cover(parts, np.array([0.3]), np.array([30, 0, 10, 20]))
    assert found is not None
    assert found.tolist() == [2, 3, 0]


def test_needless_ones_without_size_are_left_out() -> None:
    rows = without_needless(
        np.array([0, 1, 2]), np.array([[0.2], [0.0], [0.1]]), np.array([0.2]), np.array([5, 0, 0])
    )
    assert rows.tolist() == [0]


def test_one_large_bucket_may_be_worth_more_than_many_small_ones() -> None:
    """Each small one relieves more per byte, all of them together take more bytes."""
    parts = np.array([[0.051]] * 10 + [[0.5]])
    found = cover(parts, np.array([0.5]), np.array([9] * 10 + [80]))
    assert found is not None
    assert found.tolist() == [10]


@pytest.mark.parametrize("seed", range(4))
def test_bytes_are_close_to_those_of_an_exact_solver(seed: int) -> None:
    random = np.random.default_rng(seed)
    ours = exact = 0.0
    for _ in range(4):
        parts, sizes = a_shard(random, 60, steps=24)
        need = np.maximum(parts.sum(axis=0) - 0.95, 0.0)
        needy = need > 0
        rows = cover(parts, need, sizes)
        assert rows is not None
        solved = milp(
            sizes / sizes.mean(),
            integrality=np.ones(60),
            bounds=Bounds(0, 1),
            constraints=LinearConstraint((parts[:, needy] / need[needy]).T, 1, np.inf) if needy.any() else (),
            options={"mip_rel_gap": 0.005},
        )
        ours += sizes[rows].sum()
        exact += sizes[solved.x > 0.5].sum()
    assert ours <= 1.05 * exact


@pytest.mark.parametrize("with_room", [False, True])
def test_a_shard_of_ten_thousand_buckets_takes_no_time(with_room: bool) -> None:
    parts, sizes = a_shard(np.random.default_rng(1), 10_000)
    need = parts.sum(axis=0) - 0.7
    room = np.full(parts.shape[1], 0.5) if with_room else None
    began = time.process_time()
    rows = cover(parts, need, sizes, room, parts if with_room else None)
    assert time.process_time() - began < 5  # half a second, on a machine that does nothing else
    assert rows is not None
    assert met(rows, parts, need)
