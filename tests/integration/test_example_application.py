"""The example application, unchanged, while its buckets move: its callers must notice nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from foreshard.control.router_store import RouterStore
from foreshard.errors import LeaseLost
from foreshard.fleet.airline import create_buckets
from foreshard.fleet.ledger import Ledger
from foreshard.fleet.server import PostgresServer
from foreshard.fleet.throwaway import ShardDatabase, ShardPair
from foreshard.migration.lifecycle import Stage
from tests.integration.breakable_proxy import BreakableProxy
from tests.integration.example_service import Callers, service
from tests.integration.moving_fleet import (
    EVENTS_PER_FLIGHT,
    QUICK,
    MovingFleet,
    airline,
    allow,
    ignore,
    wait_until,
)
from tests.integration.told import contradictions

pytestmark = pytest.mark.slow

KEYS = 12
LEASE_S = 2.0


class WholeAirline(MovingFleet):
    """Every bucket of the map is there, so that a report over all of them can be made."""

    def fill(self, conn: psycopg.Connection[tuple[object, ...]]) -> None:
        create_buckets(conn, self.all_buckets, airline(), events_per_flight=EVENTS_PER_FLIGHT)

    def move(self, source: ShardDatabase, target: ShardDatabase) -> None:
        """Plan the next migration of the plan's buckets."""
        self.migration = self.store.open(self.plan(source.name, target.name, self.buckets))


@pytest.fixture
def fleet(shard_pair: ShardPair, control_dsn: str, tmp_path: Path) -> Iterator[WholeAirline]:
    settings = QUICK.model_copy(update={"lease_s": LEASE_S})
    with closing(WholeAirline(shard_pair, control_dsn, tmp_path, settings)) as whole:
        yield whole


@pytest.fixture
def ledger(fleet: WholeAirline) -> Iterator[Ledger]:
    with closing(Ledger(fleet.state_dir / "ledger.sqlite")) as history:
        history.note_starts(fleet.starts()[:KEYS])
        yield history


def test_nobody_notices_two_migrations_a_reversal_and_the_death_of_the_control_database(
    fleet: WholeAirline, ledger: Ledger, control_server: PostgresServer, tmp_path: Path
) -> None:
    source, target = fleet.pair.source, fleet.pair.target
    with service(fleet.control.conninfo, tmp_path / "service.log") as address:
        fleet_size = httpx.get(f"{address}/report").json()["aircraft"]
        with Callers(address, list(ledger.starts().values()), ledger) as callers:
            callers.wait_for_more(50)
            fleet.run_until(None)
            assert fleet.schemas(source) == []

            fleet.move(target, source)
            fleet.run_until(Stage.WRITE_REDIRECT)
            in_the_middle_of_a_canary_step(fleet, control_server.kill9)
            callers.wait_for_more(300)
            control_server.start()
            resume(fleet, Stage.SOAK)
            callers.wait_for_more(50)
            with fleet.runner() as runner:
                runner.reverse(ignore)
            callers.wait_for_more(50)
        report = httpx.get(f"{address}/report").json()
    assert (report["aircraft"], report["exact"]) == (fleet_size, True)
    assert_nobody_noticed(fleet, callers, ledger, owner=target)
    assert fleet.leftovers() == []


def test_nobody_notices_a_router_that_hears_of_nothing(
    fleet: WholeAirline, ledger: Ledger, control_server: PostgresServer, tmp_path: Path
) -> None:
    source, target = fleet.pair.source, fleet.pair.target
    with BreakableProxy(control_server.port) as line:
        control_server.passwords.copy_port(control_server.port, line.port)
        through = make_conninfo(fleet.control.conninfo, port=line.port)
        with service(through, tmp_path / "service.log") as address:
            with Callers(address, list(ledger.starts().values()), ledger) as callers:
                callers.wait_for_more(50)
                (heard,) = RouterStore(fleet.control).all()
                line.hold()
                fleet.run_until(None)
                assert fleet.schemas(source) == []
                callers.wait_for_more(200)
            # Other buckets, which have not moved, and these, of which it has only been told by shards.
            assert httpx.get(f"{address}/report").json()["exact"]
            assert [one.epoch for one in RouterStore(fleet.control).all()] == [heard.epoch]
            line.cut()
    assert_nobody_noticed(fleet, callers, ledger, owner=target)


def in_the_middle_of_a_canary_step(fleet: WholeAirline, happens: Callable[[], None]) -> None:
    """Make something happen while keys have two owners; the runner of the migration does not survive it."""
    quick = fleet.settings.migration.canary_soak_s
    fleet.configure(canary_soak_s=60.0)
    died: list[BaseException] = []

    def work() -> None:
        try:
            with fleet.runner("victim") as runner:
                step = runner.next_step()
                assert step is not None
                allow(runner, step)
                runner.perform(step, ignore)
        except Exception as error:
            died.append(error)

    runner = threading.Thread(target=work)
    runner.start()
    wait_until(lambda: fleet.store.get(fleet.migration).bound > 0, "the first redirected keys")
    happens()
    runner.join(60)
    assert len(died) == 1
    fleet.configure(canary_soak_s=quick)


def resume(fleet: WholeAirline, stage: Stage) -> None:
    """Go on with the migration once the dead runner's lease is over."""

    def goes_on() -> bool:
        try:
            fleet.run_until(stage)
        except LeaseLost:
            return False
        return True

    wait_until(goes_on, "the lease is over", timeout_s=60)


def assert_nobody_noticed(
    fleet: WholeAirline, callers: Callers, ledger: Ledger, owner: ShardDatabase
) -> None:
    """No error, nothing lost or doubled, no answer older than one before."""
    assert callers.errors == []
    assert contradictions(callers.told) == []
    result = fleet.checked(ledger, owner)
    assert result.passed, result
    assert result.unknown == 0, result.summary()
