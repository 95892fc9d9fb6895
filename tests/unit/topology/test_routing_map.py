from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.errors import InvalidInput
from foreshard.topology.keys import SLOTS, KeyType
from foreshard.topology.placement import Placement
from foreshard.topology.routing_map import Intent, Redirection, RoutingMap, route

BUCKETS = tuple(f"b{number:04d}" for number in range(4))
PLACEMENT = Placement(dict.fromkeys(BUCKETS, "shard-1"))
STEADY = RoutingMap(1, KeyType.INT8, BUCKETS, PLACEMENT)
MOVE = Redirection(7, frozenset(BUCKETS[:2]), "shard-1", "shard-4", bound=512, shadow_percent=0.0)
keys = st.integers(-(2**63), 2**63 - 1)
bounds = st.integers(0, SLOTS)
intents = st.sampled_from(Intent)


def moving(**changes: object) -> RoutingMap:
    return replace(STEADY, epoch=2, redirections=(replace(MOVE, **changes),))  # type: ignore[arg-type]


@given(keys, intents)
def test_without_a_migration_the_placement_decides(key: int, intent: Intent) -> None:
    found = route(STEADY, key, intent)
    assert (found.shard, found.migration, found.shadow) == ("shard-1", None, None)
    assert found.bucket == STEADY.bucket_of(key)


@given(keys, intents, bounds)
def test_the_bound_decides_inside_a_migration(key: int, intent: Intent, bound: int) -> None:
    found = route(moving(bound=bound), key, intent)
    if found.bucket in MOVE.buckets:
        assert found.migration == 7
        assert found.shard == ("shard-4" if found.slot < bound else "shard-1")
    else:
        assert (found.shard, found.migration) == ("shard-1", None)


@given(keys, bounds)
def test_reads_and_writes_of_a_key_meet_at_one_shard(key: int, bound: int) -> None:
    routing_map = moving(bound=bound, shadow_percent=5.0)
    assert route(routing_map, key, Intent.READ).shard == route(routing_map, key, Intent.WRITE).shard


@given(keys, bounds)
def test_only_reads_are_shadowed_and_on_the_other_copy(key: int, bound: int) -> None:
    routing_map = moving(bound=bound, shadow_percent=5.0)
    read, write = route(routing_map, key, Intent.READ), route(routing_map, key, Intent.WRITE)
    assert write.shadow is None
    if read.migration is None:
        assert read.shadow is None
    else:
        assert {read.shard, read.shadow} == {"shard-1", "shard-4"}


@given(keys, bounds, bounds)
def test_raising_the_bound_moves_keys_one_way(key: int, one: int, other: int) -> None:
    before = route(moving(bound=min(one, other)), key, Intent.WRITE).shard
    after = route(moving(bound=max(one, other)), key, Intent.WRITE).shard
    assert (before, after) != ("shard-4", "shard-1")


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("bound", {"bound": -1}),
        ("bound", {"bound": SLOTS + 1}),
        ("shadow_percent", {"shadow_percent": 101.0}),
        ("shadow_percent", {"shadow_percent": float("nan")}),
        ("target", {"target": "shard-1"}),
        ("buckets", {"buckets": frozenset()}),
    ],
)
def test_bad_redirections_are_refused(field: str, changes: dict[str, object]) -> None:
    with pytest.raises(InvalidInput) as refusal:
        moving(**changes)
    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("buckets", {"buckets": ()}),
        ("buckets", {"buckets": ("b0000", "b0000")}),
        ("placement", {"buckets": ("b0000", "b9999")}),
        ("redirections", {"redirections": (MOVE, replace(MOVE, migration=8))}),
        ("redirections", {"redirections": (replace(MOVE, buckets=frozenset({"b9999"})),)}),
    ],
)
def test_bad_maps_are_refused(field: str, changes: dict[str, object]) -> None:
    with pytest.raises(InvalidInput) as refusal:
        replace(STEADY, **changes)  # type: ignore[arg-type]
    assert refusal.value.field == field


def test_an_unusable_key_is_refused() -> None:
    with pytest.raises(InvalidInput, match="key"):
        route(STEADY, "not a number", Intent.READ)


@pytest.mark.parametrize(("bound", "serving"), [(0, "one"), (512, "one"), (513, "two"), (SLOTS, "two")])
def test_a_moving_bucket_is_measured_where_most_of_it_is(bound: int, serving: str) -> None:
    placement = Placement({"b0": "one", "b1": "one"})
    moving = Redirection(1, frozenset({"b1"}), "one", "two", bound, 0.0)
    routing_map = RoutingMap(1, KeyType.TEXT, ("b0", "b1"), placement, (moving,))
    assert routing_map.served_by(serving) == (("b0", "b1") if serving == "one" else ("b1",))
    assert set(routing_map.served_by("one") + routing_map.served_by("two")) == {"b0", "b1"}
