from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from foreshard.errors import InvalidInput
from foreshard.planning.loads import fleet_loads
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.view import BucketView, FleetView, ShardView

BuildView = Callable[..., FleetView]


@pytest.fixture
def view(build: BuildView) -> FleetView:
    return build({"shard-1": 1.2, "shard-2": 0.3})


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("capacity", {"capacity": {}}),
        ("capacity", {"capacity": {"queries_per_s": 0.0}}),
        ("capacity", {"capacity": {"queries_per_s": float("nan")}}),
        ("current", {"current": {"queries_per_s": 1.0}}),
        ("current", {"current": {"queries_per_s": float("nan"), "cpu_cores": 1.0}}),
        ("current", {"current": {"queries_per_s": -1.0, "cpu_cores": 1.0}}),
        ("bands", {"bands": {}}),
    ],
)
def test_bad_shards_are_refused(view: FleetView, field: str, change: dict[str, Any]) -> None:
    shard: ShardView = view.shards[0]
    with pytest.raises(InvalidInput) as refusal:
        replace(shard, **change)
    assert refusal.value.field == field
    assert "shard-1" in str(refusal.value)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("size_bytes", {"size_bytes": -1}),
        ("current", {"current": {"queries_per_s": float("inf")}}),
        ("last_moved_at", {"last_moved_at": datetime(2013, 11, 27)}),  # noqa: DTZ001
    ],
)
def test_bad_buckets_are_refused(view: FleetView, field: str, change: dict[str, Any]) -> None:
    bucket: BucketView = view.buckets[0]
    with pytest.raises(InvalidInput) as refusal:
        replace(bucket, **change)
    assert refusal.value.field == field


def test_inconsistent_fleets_are_refused(view: FleetView) -> None:
    elsewhere = replace(view.buckets[0], shard="shard-9")
    shorter = replace(
        view.buckets[0], band=replace(view, now=view.now + timedelta(hours=2)).ahead().buckets[0].band
    )
    for field, change in (
        ("now", {"now": view.now.replace(tzinfo=None)}),
        ("shards", {"shards": ()}),
        ("shards", {"shards": view.shards * 2}),
        ("buckets", {"buckets": view.buckets * 2}),
        ("buckets", {"buckets": (elsewhere,)}),
        ("bands", {"buckets": (shorter,)}),
        ("bands", {"now": view.now + timedelta(hours=12)}),
    ):
        with pytest.raises(InvalidInput) as refusal:
            replace(view, **change)
        assert refusal.value.field == field


def test_hours_that_are_over_are_left_out(view: FleetView) -> None:
    later = replace(view, now=view.now + timedelta(hours=2)).ahead()
    # 20:10: the hour from 20:00 still counts.
    assert later.shards[0].bands["cpu_cores"].ts[0].hour == 20
    assert all(bucket.band.ts[0].hour == 20 for bucket in later.buckets)


def test_shards_with_different_resources_are_refused(view: FleetView) -> None:
    first = view.shards[0]
    other = replace(first, capacity={"cpu_cores": 8.0})
    with pytest.raises(InvalidInput, match="capacity"):
        fleet_loads(replace(view, shards=(other, view.shards[1])), DecisionPolicy())


def test_the_buckets_parts_add_up_to_their_shard(view: FleetView) -> None:
    loads = fleet_loads(view, DecisionPolicy())
    names = tuple(bucket.name for bucket in view.on("shard-1"))
    assert loads.total(names) == pytest.approx(loads.shard["shard-1"])
