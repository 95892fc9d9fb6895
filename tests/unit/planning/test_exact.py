from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.planning.cover import TOLERANCE
from foreshard.planning.exact import exact_moves
from foreshard.planning.integer_program import GAP, Program
from foreshard.planning.loads import FleetLoads
from foreshard.planning.view import Floats, Indexes, Sizes

CEILING = 0.85
LIMIT = 0.8
TINY = TOLERANCE / 2


def loads_of(
    load: Floats, shard: Sequence[int], shards: int, own: float = 0.0, current: Floats | None = None
) -> FleetLoads:
    """Shards of capacity 1. ``load`` (B, R, T) of buckets on the rows ``shard``; ``own``: what stays on each shard."""
    rows = np.array(shard, np.intp)
    path = np.full((shards, *load.shape[1:]), own)
    np.add.at(path, rows, load)
    now = path[:, :, 0].copy() if current is None else current
    capacity = np.ones((shards, load.shape[1]))
    return FleetLoads(
        levels=list(path[:, None].copy()),
        planned=0,
        current=now.copy(),
        origin=rows,
        shard=rows.copy(),
        capacity=capacity,
        _first=path[:, None],
        _now=now,
        _load=load,
        _whole=np.where(path > 0, path, 1.0),
        _median=path,
        _spread=np.ones(len(rows)),
        _spreads=np.ones_like(path),
    )


@dataclass(frozen=True)
class Problem:
    """Sources are at risk, all other shards are targets."""

    loads: FleetLoads
    sizes: Sizes
    sources: tuple[int, ...]
    barred: frozenset[tuple[int, int]] = frozenset()
    apart: tuple[Indexes, ...] = ()

    @property
    def movable(self) -> Mapping[int, Indexes]:
        return {source: self.loads.on(source) for source in self.sources}

    @property
    def room(self) -> Mapping[int, Floats]:
        return {
            row: LIMIT - self.loads.path(row)
            for row in range(len(self.loads.levels))
            if row not in self.sources
        }

    def solve(self) -> list[tuple[int, int]] | None:
        return exact_moves(
            self.loads,
            self.sizes,
            self.movable,
            CEILING,
            self.room,
            lambda bucket, target: (bucket, target) not in self.barred,
            self.apart,
        )

    def good(self, moves: Sequence[tuple[int, int]]) -> bool:
        """Whether all sources are relieved and all targets keep to their room and to what is asked."""
        after = self.loads.copy()
        for bucket, target in moves:
            after.move(np.array([bucket]), target)
        relieved = all((after.path(row) <= CEILING + TOLERANCE + TINY).all() for row in self.sources)
        gets = {target for _, target in moves}
        fits = all((after.path(row) <= LIMIT + TOLERANCE + TINY).all() for row in gets)
        alone = all(
            len(set(after.shard[rows[np.isin(after.shard[rows], list(gets))]].tolist()))
            == np.isin(after.shard[rows], list(gets)).sum()
            for rows in self.apart
        )
        return relieved and fits and alone and not self.barred & set(moves)

    def bytes(self, moves: Sequence[tuple[int, int]]) -> int:
        return int(sum(self.sizes[bucket] for bucket, _ in moves))

    def fewest_bytes(self) -> int | None:
        """By trying everything."""
        buckets = [int(row) for rows in self.movable.values() for row in rows]
        ways = product([None, *self.room], repeat=len(buckets))
        every = [[(b, t) for b, t in zip(buckets, way, strict=True) if t is not None] for way in ways]
        return next((self.bytes(moves) for moves in sorted(every, key=self.bytes) if self.good(moves)), None)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sources, targets = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    each = draw(st.integers(2, 4 if sources == 1 else 3))
    load = random.uniform(0, 1, (sources * each + targets, 2, 3))
    shard = [row for row in range(sources) for _ in range(each)] + [sources + row for row in range(targets)]
    load[: sources * each] *= draw(st.sampled_from([0.9, 1.0, 1.3, 2.0])) / each * 1.6
    load[sources * each :] *= draw(st.sampled_from([0.1, 0.5, 0.8]))
    sizes = random.integers(0, 5, len(load)) * 10**8
    barred = frozenset(draw(st.sets(st.tuples(st.integers(0, each - 1), st.just(sources)), max_size=2)))
    apart = draw(st.sampled_from([(), (np.array([0, 1]),), (np.array([0, len(load) - 1]),)]))
    return Problem(loads_of(load, shard, sources + targets), sizes, tuple(range(sources)), barred, apart)


@given(problems())
@settings(max_examples=25, deadline=None)
def test_moves_are_good_the_fewest_bytes_and_none_is_needless(problem: Problem) -> None:
    moves, fewest = problem.solve(), problem.fewest_bytes()
    assert (moves is None) == (fewest is None)
    if moves is None or fewest is None:
        return
    assert problem.good(moves)
    assert problem.bytes(moves) <= fewest * (1 + 2 * GAP)
    for at in range(len(moves)):
        assert not problem.good(moves[:at] + moves[at + 1 :])


@given(problems())
@settings(max_examples=10, deadline=None)
def test_the_same_problem_has_the_same_moves(problem: Problem) -> None:
    assert problem.solve() == problem.solve()


def flat(*loads: float) -> Floats:
    return np.array(loads)[:, None, None] * np.ones((1, 1, 2))


def test_all_go_to_one_target_where_one_has_room() -> None:
    """Each pair of source and target is a plan of its own."""
    loads = loads_of(flat(0.3, 0.3, 0.3, 0.3, 0.25, 0.25, 0.1), [0, 0, 0, 0, 1, 1, 2], 3, own=0.01)
    problem = Problem(loads, np.array([1, 1, 1, 1, 1, 1, 1]), (0,))
    moves = problem.solve()
    assert moves is not None
    assert len(moves) == 2
    assert {target for _, target in moves} == {2}


def test_what_no_target_alone_can_take_is_spread() -> None:
    loads = loads_of(flat(0.3, 0.3, 0.3, 0.3, 0.4, 0.4), [0, 0, 0, 0, 1, 2], 3)
    moves = Problem(loads, np.ones(6, np.int64), (0,)).solve()
    assert moves is not None
    assert sorted(target for _, target in moves) == [1, 2]


def test_more_bytes_are_moved_where_the_fewest_do_not_fit() -> None:
    """The light bucket is too busy for any target."""
    loads = loads_of(flat(0.5, 0.3, 0.3, 0.6), [0, 0, 0, 1], 2)
    sizes = np.array([1, 10, 10, 1])
    assert Problem(loads, sizes, (0,)).solve() is None
    roomier = loads_of(flat(0.5, 0.3, 0.3, 0.45), [0, 0, 0, 1], 2)
    assert Problem(roomier, sizes, (0,)).solve() in ([(1, 1)], [(2, 1)])


def test_two_sources_share_the_room_of_a_target() -> None:
    """What is best for each of them does not fit together."""
    load = flat(0.35, 0.2, 0.5, 0.35, 0.2, 0.5, 0.2)
    problem = Problem(loads_of(load, [0, 0, 0, 1, 1, 1, 2], 3), np.array([1, 5, 9, 1, 5, 9, 1]), (0, 1))
    moves = problem.solve()
    assert moves is not None
    assert problem.bytes(moves) == 6


def test_a_present_load_above_the_knee_is_relieved_too() -> None:
    loads = loads_of(flat(0.2, 0.3, 0.1), [0, 0, 1], 2, current=np.array([[0.9], [0.1]]))
    sizes, movable, room = np.array([3, 2, 1]), {0: np.array([0, 1])}, {1: LIMIT - loads.path(1)}
    found = exact_moves(loads, sizes, movable, CEILING, room, lambda *_: True, knee=0.8)
    assert found == [(1, 1)]
    assert exact_moves(loads, sizes, movable, CEILING, room, lambda *_: True) == []


def test_a_target_busy_at_present_gets_nothing() -> None:
    loads = loads_of(flat(0.5, 0.5, 0.1, 0.1), [0, 0, 1, 2], 3, current=np.array([[0.5], [0.79], [0.1]]))
    room = {row: LIMIT - loads.path(row) for row in (1, 2)}
    movable = {0: np.array([0, 1])}
    found = exact_moves(loads, np.ones(4, np.int64), movable, CEILING, room, lambda *_: True, knee=0.8)
    assert found is not None
    assert [target for _, target in found] == [2]


def test_where_nothing_is_needed_nothing_moves() -> None:
    assert Problem(loads_of(flat(0.2, 0.2, 0.1), [0, 0, 1], 2), np.ones(3, np.int64), (0,)).solve() == []


@pytest.mark.parametrize("targets", [0, 1])
def test_without_buckets_or_targets_there_is_no_solution(targets: int) -> None:
    loads = loads_of(flat(0.5, 0.5), [0, 0], 1 + targets, own=0.1)
    movable = {0: np.array([0, 1] if targets == 0 else [], np.intp)}
    room = {row: LIMIT - loads.path(row) for row in range(1, 1 + targets)}
    assert exact_moves(loads, np.ones(2, np.int64), movable, CEILING, room, lambda *_: True) is None


def test_a_program_without_a_solution_has_none() -> None:
    program = Program(np.array([1.0, 1.0]))
    program.at_least(np.array([0, 1]), np.ones((1, 2)), np.array([2.0]))
    program.at_most(np.array([0, 1]), np.ones((1, 2)), np.array([1.0]))
    assert program.solve() is None


def test_a_program_keeps_to_its_rows_to_the_last_digit() -> None:
    """The solver alone would take what is short of the row by a millionth."""
    program = Program(np.array([1.0, 2.0]))
    program.at_least(np.array([0, 1]), np.array([[1 - 5e-7, 1.0]]), np.array([1.0]))
    chosen = program.solve()
    assert chosen is not None
    assert chosen.tolist() == [False, True]
