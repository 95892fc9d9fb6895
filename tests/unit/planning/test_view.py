from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from foreshard.errors import InvalidInput
from foreshard.planning.loads import fleet_loads
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.view import FleetView

BuildView = Callable[..., FleetView]


@pytest.fixture
def view(build: BuildView) -> FleetView:
    return build({"shard-1": 1.2, "shard-2": 0.3})


def spoilt(values: np.ndarray, value: float) -> np.ndarray:
    """The same with one value in the place of the first."""
    changed = np.array(values)
    changed.flat[0] = value
    return changed


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("shards", "capacity", 0.0),
        ("shards", "capacity", np.nan),
        ("shards", "capacity", np.inf),
        ("shards", "current", np.nan),
        ("shards", "current", -1.0),
        ("shards", "bands", np.nan),
        ("shards", "peaks", np.inf),
        ("buckets", "size_bytes", -1),
        ("buckets", "load", np.inf),
        ("buckets", "queries", -0.5),
        ("buckets", "rested_s", np.nan),
        ("buckets", "shard", 2),
        ("buckets", "shard", -1),
        ("buckets", "came_from", 7),
    ],
)
def test_bad_values_are_refused(view: FleetView, part: str, field: str, value: float) -> None:
    of = getattr(view, part)
    with pytest.raises(InvalidInput) as refusal:
        replace(view, **{part: replace(of, **{field: spoilt(getattr(of, field), value)})})
    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ("shards", "current"),
        ("shards", "peaks"),
        ("buckets", "load"),
        ("buckets", "queries"),
        ("buckets", "size_bytes"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(view: FleetView, part: str, field: str) -> None:
    of = getattr(view, part)
    with pytest.raises(InvalidInput) as refusal:
        replace(view, **{part: replace(of, **{field: getattr(of, field)[1:]})})
    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("now", lambda view: {"now": view.now.replace(tzinfo=None)}),
        ("starts_at", lambda view: {"starts_at": view.now.replace(tzinfo=None)}),
        ("shards", lambda view: {"shards": replace(view.shards, names=())}),
        ("shards", lambda view: {"shards": replace(view.shards, names=("shard-1", "shard-1"))}),
        ("buckets", lambda view: {"buckets": replace(view.buckets, names=view.buckets.names[::-1])}),
        ("metrics", lambda _: {"metrics": ()}),
        ("bands", lambda view: {"now": view.now + timedelta(hours=12)}),
    ],
)
def test_inconsistent_fleets_are_refused(
    view: FleetView, field: str, change: Callable[[FleetView], dict[str, Any]]
) -> None:
    with pytest.raises(InvalidInput) as refusal:
        replace(view, **change(view))
    assert refusal.value.field == field


def test_hours_that_are_over_are_left_out(view: FleetView) -> None:
    later = replace(view, now=view.now + timedelta(hours=2)).ahead()
    assert later.starts_at.hour == 20  # 20:10: the hour from 20:00 still counts
    assert later.steps == view.steps - 2
    assert later.ends_at == view.ends_at
    assert later.buckets.load == pytest.approx(view.buckets.load[:, :, 2:])
    assert view.ahead() is view


@pytest.mark.parametrize("rule", ["threshold", "probabilistic"])
def test_the_buckets_parts_add_up_to_their_shard(view: FleetView, rule: str) -> None:
    loads = fleet_loads(view, DecisionPolicy(policy=rule))
    here = loads.on(0)
    assert loads.of(here, 0).sum(axis=0) == pytest.approx(loads.path(0))
    assert loads.all_levels_of(here, 0) == pytest.approx(loads.levels[0])
    assert loads.now_of(here, 0).sum(axis=0) == pytest.approx(loads.current[0])


def test_what_buckets_do_not_explain_stays(view: FleetView) -> None:
    half = replace(view, buckets=replace(view.buckets, load=view.buckets.load / 2))
    loads = fleet_loads(half, DecisionPolicy())
    before = loads.path(0).copy()
    loads.move(loads.on(0), 1)
    assert loads.path(0) == pytest.approx(before / 2)


def test_buckets_that_claim_more_than_their_shard_share_it(view: FleetView) -> None:
    double = replace(view, buckets=replace(view.buckets, load=view.buckets.load * 2))
    loads = fleet_loads(double, DecisionPolicy())
    assert loads.of(loads.on(0), 0).sum(axis=0) == pytest.approx(loads.path(0))


def test_moving_there_and_back_changes_nothing(build: BuildView) -> None:
    loads = fleet_loads(build({"a": 1.0, "b": 0.5}, scale={"b": 4.0}), DecisionPolicy())
    before = [of.copy() for of in loads.levels]
    some = loads.on(0)[:3]
    copied = loads.copy()
    loads.move(some, 1)
    assert loads.path(1).max() == pytest.approx(
        before[1][loads.planned].max() + before[0][loads.planned].max() * 3 / 8 / 4
    )
    loads.move(some, 0)
    for at, of in enumerate(before):
        assert loads.levels[at] == pytest.approx(of)
        assert copied.levels[at] == pytest.approx(of)


def test_what_is_on_its_way_is_there(view: FleetView) -> None:
    names = view.buckets.names[:2]
    loads = fleet_loads(replace(view, moving=dict.fromkeys(names, "shard-2")), DecisionPolicy())
    assert set(loads.on(1)[:2]) == {0, 1}
    assert loads.path(0).max() == pytest.approx(fleet_loads(view, DecisionPolicy()).path(0).max() * 6 / 8)


def test_a_steady_bucket_takes_little_of_its_shards_uncertainty(view: FleetView) -> None:
    """Of eight equal buckets one bursts: the median goes in equal parts, what is above it mostly with that one."""
    spread = np.full(len(view.buckets.names), 0.1)
    spread[0] = 2.0
    uncertain = replace(view, buckets=replace(view.buckets, spread=spread))
    loads, alike = fleet_loads(uncertain, DecisionPolicy()), fleet_loads(view, DecisionPolicy())
    here = loads.on(0)
    of = loads.of(here, 0)
    assert of.sum(axis=0) == pytest.approx(alike.path(0))
    assert loads.all_levels_of(here, 0) == pytest.approx(alike.levels[0])
    median = view.shards.at(0.5)[0] / view.shards.capacity[0][:, None]
    above = np.maximum(alike.path(0) - median, 0)
    assert of[0] - median / 8 == pytest.approx(above * 2.0 / 2.7)
    assert of[1] - median / 8 == pytest.approx(above * 0.1 / 2.7)
    loads.move(here[:1], 1)
    assert loads.path(0) == pytest.approx(alike.path(0) - of[0])
    with pytest.raises(InvalidInput) as refusal:
        replace(view, buckets=replace(view.buckets, spread=-spread))
    assert refusal.value.field == "spread"
