"""What a router may expect of any source of its map: the static one of tests and the control database's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from time import sleep

import pytest

from foreshard.control.engine import ControlDatabase
from foreshard.control.router_store import RouterStore
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.fleet.throwaway import ThrowawayServers
from foreshard.router import ControlMapSource, StaticMapSource
from foreshard.router.map_source import MapSource
from foreshard.topology.keys import KeyType
from foreshard.topology.placement import Placement
from foreshard.topology.routing_map import RoutingMap

BUCKETS = ("b0", "b1", "b2")


@dataclass(frozen=True)
class Case:
    """A source, and how the fleet behind it changes (None: it never does)."""

    source: MapSource
    move_all_to: Callable[[str], None] | None


@pytest.fixture(scope="module")
def servers() -> Iterator[ThrowawayServers]:
    with ThrowawayServers() as running:
        yield running


@pytest.fixture(params=["static", "control"])
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    if request.param == "static":
        source = StaticMapSource(_static())
        yield Case(source, None)
        source.close()
        return
    running: ThrowawayServers = request.getfixturevalue("servers")
    control = ControlDatabase(running.new_control_database())
    control.migrate()
    topology = TopologyStore(control)
    topology.describe_fleet(KeyType.TEXT, {"things": "owner"})
    for name in ("one", "two"):
        topology.put_shard(ShardRecord(name, f"dbname={name}", f"dbname={name}", {"queries_per_s": 1.0}))

    def move_all_to(shard: str) -> None:
        topology.put_buckets(BUCKETS, Placement(dict.fromkeys(BUCKETS, shard)))

    move_all_to("one")
    registration = RouterStore(control).registration("test")
    following = ControlMapSource(control.conninfo, topology.routing_map, registration)
    yield Case(following, move_all_to)
    following.close()
    control.close()


def _static() -> RoutingMap:
    return RoutingMap(1, KeyType.TEXT, BUCKETS, Placement(dict.fromkeys(BUCKETS, "one")))


def test_the_current_map_is_whole_and_cheap(case: Case) -> None:
    first = case.source.current()
    assert first.buckets == BUCKETS
    assert {first.placement.shard_of(bucket) for bucket in BUCKETS} == {"one"}
    assert case.source.current() == first


def test_a_refreshed_map_is_never_older(case: Case) -> None:
    before = case.source.current()
    if case.move_all_to is not None:
        case.move_all_to("two")
    after = case.source.refresh()
    assert after.epoch >= before.epoch
    expected = "one" if case.move_all_to is None else "two"
    assert {after.placement.shard_of(bucket) for bucket in BUCKETS} == {expected}
    assert case.source.current().epoch >= after.epoch


def test_closing_twice_does_no_harm(case: Case) -> None:
    case.source.close()
    case.source.close()


def test_a_source_says_how_it_stands(case: Case) -> None:
    assert case.source.fresh()
    state = case.source.state()
    assert (state.epoch, state.fresh) == (case.source.current().epoch, True)
    assert state.registered == (case.move_all_to is not None)
    assert 0 <= state.age_s < 10
    case.source.close()
    assert case.source.fresh() == (case.move_all_to is None)


def test_a_map_that_came_late_is_as_old_as_its_question(servers: ThrowawayServers) -> None:
    def hanging() -> RoutingMap:
        sleep(0.4)
        return _static()

    with closing(ControlDatabase(servers.new_control_database())) as control:
        control.migrate()
        registration = RouterStore(control).registration("test", lease_s=0.3)
        with closing(ControlMapSource(control.conninfo, hanging, registration)) as source:
            assert source.state().registered
            assert not source.fresh()
