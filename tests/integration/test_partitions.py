"""The network breaks right after a close: between runner and shards, between the shards, half-open or at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from foreshard.errors import FlipFailed, ForeshardError
from foreshard.fleet.throwaway import ShardDatabase, ThrowawayServers
from foreshard.migration import failpoint
from foreshard.migration import flip as flip_module
from foreshard.migration.flip import flip
from foreshard.postgres.guard import Side
from tests.integration.breakable_proxy import BreakableProxy
from tests.integration.moving_fleet import QUICK, MovingFleet, Writing, wait_until, writers
from tests.integration.partitioned_fleet import Network, partitioned_fleet

pytestmark = pytest.mark.slow

SETTINGS = QUICK.model_copy(update={"marker_timeout_s": 1.0})
BREAKS = ("cut", "half-open")
DIRECTIONS = [pytest.param(0, 400, id="raising"), pytest.param(400, 0, id="lowering")]


@pytest.fixture(scope="module")
def network_and_fleet(
    servers: ThrowawayServers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[MovingFleet, Network, Writing]]:
    directory = tmp_path_factory.mktemp("partitioned")
    with partitioned_fleet(servers, directory, SETTINGS) as (fleet, network), writers(fleet) as writing:
        yield fleet, network, writing


@pytest.fixture
def fleet(network_and_fleet: tuple[MovingFleet, Network, Writing]) -> MovingFleet:
    return network_and_fleet[0]


@pytest.fixture
def network(network_and_fleet: tuple[MovingFleet, Network, Writing]) -> Iterator[Network]:
    network = network_and_fleet[1]
    yield network
    network.heal()


def break_link(link: BreakableProxy, how: str) -> None:
    """Half-open: everything hangs and nobody is told. Cut: connections are reset, and new ones refused."""
    if how == "half-open":
        link.hold()
    else:
        link.refuse()
        link.cut()


def bounds(fleet: MovingFleet) -> tuple[int, int]:
    """(source, target), asked past the broken links; the target first, so that a flip between hides nothing."""
    target, source = (_bound(shard) for shard in (fleet.pair.target, fleet.pair.source))
    return source, target


def _bound(shard: ShardDatabase) -> int:
    with shard.connect() as conn:
        row = conn.execute(
            "SELECT (pg_sequence_last_value(bound_sequence::regclass) % 2048)::int FROM foreshard.sides"
        ).fetchone()
    assert row is not None
    return int(str(row[0]))


def flipped(
    fleet: MovingFleet,
    before: int,
    after: int,
    *,
    before_close: Callable[[], None] = lambda: None,
    after_close: Callable[[], None] = lambda: None,
) -> threading.Thread:
    """A runner that flips to ``before``, then to ``after``. The network breaks in the second flip, once.

    What is to stop the marker must come before the close: a marker takes less than a millisecond.
    """

    def run() -> None:
        with suppress(psycopg.Error, ForeshardError), fleet.runner() as runner:
            flip(runner.work, before)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(flip_module, "_close", _preceded(before_close))
                patch.setattr(failpoint, "hit", _once(after_close))
                flip(runner.work, after)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def _preceded(act: Callable[[], None]) -> Callable[..., Any]:
    close, first = flip_module._close, _once(act)

    def closed(*arguments: Any) -> Any:
        first()
        return close(*arguments)

    return closed


def _once(act: Callable[[], None]) -> Callable[..., None]:
    left = [act]

    def hit(*_: object) -> None:
        if left:
            left.pop()()

    return hit


def settled(fleet: MovingFleet) -> int:
    """The bound after a runner has entered: the same on both sides and in the routing map."""
    with fleet.runner() as runner:
        assert runner.work.flips.unfinished(fleet.migration) is None
        source, target = bounds(fleet)
        assert source == target == runner.record.bound
        return source


@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize(("before", "after"), DIRECTIONS)
def test_the_runner_loses_the_opening_side_and_the_marker_opens_it(
    fleet: MovingFleet, network: Network, before: int, after: int, how: str
) -> None:
    opening = Side.TARGET if after > before else Side.SOURCE
    broken = threading.Event()

    def after_close() -> None:
        break_link(network.runner[opening], how)
        broken.set()

    running = flipped(fleet, before, after, after_close=after_close)
    assert broken.wait(20)
    wait_until(lambda: bounds(fleet) == (after, after), "the marker opens while no runner reaches that side")
    network.heal()
    running.join(30)
    assert not running.is_alive()
    assert settled(fleet) == after


@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize(("before", "after"), DIRECTIONS)
def test_the_sides_lose_each_other_and_the_keys_are_taken_back(
    fleet: MovingFleet, network: Network, before: int, after: int, how: str
) -> None:
    opening = Side.TARGET if after > before else Side.SOURCE
    running = flipped(fleet, before, after, before_close=lambda: break_link(network.stream[opening], how))
    running.join(30)
    assert not running.is_alive()
    assert bounds(fleet) == (before, before)
    network.heal()
    with fleet.runner() as runner, runner.work.marker_line(opening.other) as markers:
        assert markers.applied(markers.send(), 30)  # and so were the markers of the flip
    assert settled(fleet) == before


@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize(("before", "after"), DIRECTIONS)
def test_the_opening_side_is_alone(
    fleet: MovingFleet, network: Network, before: int, after: int, how: str
) -> None:
    """It may or may not have opened, nobody can ask: the keys stay without an owner until it can be reached."""
    opening = Side.TARGET if after > before else Side.SOURCE
    broken = threading.Event()

    def after_close() -> None:
        break_link(network.runner[opening], how)
        broken.set()

    running = flipped(
        fleet,
        before,
        after,
        before_close=lambda: break_link(network.stream[opening], how),
        after_close=after_close,
    )
    assert broken.wait(20)
    assert {bounds(fleet) for _ in range(100)} == {(max(before, after), min(before, after))}
    network.heal()
    running.join(60)
    assert not running.is_alive()
    assert settled(fleet) in (before, after)


@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize(("before", "after"), DIRECTIONS)
def test_the_runner_loses_the_closing_side(
    fleet: MovingFleet, network: Network, before: int, after: int, how: str
) -> None:
    closing = Side.SOURCE if after > before else Side.TARGET
    broken = threading.Event()

    def after_close() -> None:
        break_link(network.runner[closing], how)
        broken.set()

    running = flipped(fleet, before, after, after_close=after_close)
    assert broken.wait(20)
    wait_until(lambda: bounds(fleet) == (after, after), "the flip goes on without the side that closed")
    network.heal()
    running.join(60)
    assert not running.is_alive()
    assert settled(fleet) == after


def test_nothing_was_lost_meanwhile(
    network_and_fleet: tuple[MovingFleet, Network, Writing], fleet: MovingFleet
) -> None:
    writing = network_and_fleet[2]
    with fleet.runner() as runner:
        for bound in (400, 0):
            with suppress(FlipFailed):
                flip(runner.work, bound)
    assert settled(fleet) == 0
    writing.wait_for_more(20)
    writing.stop()
    result = fleet.checked(writing.ledger, fleet.pair.source)
    assert result.passed, result
    assert result.redirected > 0
    assert result.unknown == 0
