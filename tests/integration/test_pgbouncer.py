"""Cutovers and reversals under applications that know nothing of Foreshard, behind the real PgBouncer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import psycopg
import pytest
from psycopg import sql

from foreshard.control.topology_store import TopologyStore
from foreshard.errors import FlipFailed, ForeshardError, NotFound, ShardUnavailable
from foreshard.fleet.grants import APPLICATION
from foreshard.fleet.throwaway import ShardDatabase, ShardPair, ThrowawayServers
from foreshard.migration.lifecycle import Stage
from foreshard.migration.work import Work
from foreshard.pgbouncer.alias import aliases
from foreshard.pgbouncer.console import Console
from foreshard.pgbouncer.handover import BEHIND, catch_up, flip_paused
from foreshard.pgbouncer.ini import ini
from foreshard.pgbouncer.rendering import rendered
from foreshard.settings import PgBouncerSettings
from foreshard.topology.keys import SLOTS, KeyType
from foreshard.topology.placement import Placement
from foreshard.topology.routing_map import RoutingMap
from tests.integration.moving_fleet import BUCKETS, MovingFleet, allow, drop_pair, ignore, wait_until
from tests.integration.pgbouncer_server import PgBouncerServer, needs_pgbouncer

pytestmark = needs_pgbouncer


@pytest.fixture
def pgbouncers(fleet: MovingFleet) -> Iterator[tuple[PgBouncerServer, PgBouncerServer]]:
    """Two that follow the fleet's map."""
    with front(fleet) as one, front(fleet) as other:
        follow(fleet, one, other)
        yield one, other


@pytest.fixture(scope="module")
def waiting(
    servers: ThrowawayServers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[MovingFleet, PgBouncerServer]]:
    """A migration that stands before its cutover, with a PgBouncer. The tests that share it leave it so."""
    pair = ShardPair(servers.new_shard("source"), servers.new_shard("target"))
    fleet = MovingFleet(pair, servers.new_control_database(), tmp_path_factory.mktemp("waiting"))
    with front(fleet) as server:
        follow(fleet, server)
        fleet.run_until(Stage.CUTOVER)
        yield fleet, server
    fleet.close()
    drop_pair(servers, pair)


def front(fleet: MovingFleet) -> PgBouncerServer:
    return PgBouncerServer(fleet.pair, ini(*rendered(TopologyStore(fleet.control))))


def follow(fleet: MovingFleet, *servers: PgBouncerServer, **changed: object) -> None:
    """From now on cutovers pause these."""
    those = tuple(PgBouncerSettings(admin=one.admin, file=one.include) for one in servers)
    fleet.configure(canary_percent=(), pgbouncers=those, **changed)


class Application:
    """Threads that insert events and read them back by plain SQL: bare names, one transaction each."""

    def __init__(self, server: PgBouncerServer, threads: int = 2) -> None:
        self._server = server
        self.acknowledged: list[tuple[str, int]] = []
        self.errors: list[str] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(bucket, number))
            for number in range(threads)
            for bucket in BUCKETS
        ]

    def __enter__(self) -> Application:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self, count: int) -> None:
        wanted = len(self.acknowledged) + count
        wait_until(lambda: len(self.acknowledged) >= wanted or bool(self.errors), f"{count} writes")
        assert self.errors == []

    def _work(self, bucket: str, number: int) -> None:
        try:
            with self._server.connect(bucket) as conn:
                row = conn.execute(
                    "SELECT tailnum, max(flight_id) FROM flights GROUP BY 1 LIMIT 1"
                ).fetchone()
                assert row is not None
                mine = 0
                while not self._stop.is_set():
                    with conn.transaction():
                        conn.execute(
                            "INSERT INTO passenger_events (tailnum, flight_id, kind, passenger, at, detail)"
                            " VALUES (%s, %s, 'boarding', %s, now(), %s)",
                            (*row, f"reader {number}", str(mine)),
                        )
                        conn.execute("UPDATE aircraft SET cycles = cycles + 1 WHERE tailnum = %s", (row[0],))
                    self.acknowledged.append((f"{bucket} {number}", mine))
                    mine += 1
                    seen = conn.execute(
                        "SELECT count(*) FROM passenger_events WHERE passenger = %s", (f"reader {number}",)
                    ).fetchone()
                    if seen != (mine,):
                        self.errors.append(f"read {seen} of its own {mine} writes")
                        return
        except psycopg.Error as error:
            self.errors.append(str(error))

    def check(self, owner: ShardDatabase) -> None:
        """Every acknowledged insert is there once."""
        assert self.errors == []
        found = []
        with owner.connect() as conn:
            for bucket in BUCKETS:
                rows = conn.execute(
                    sql.SQL("SELECT passenger, detail FROM {} WHERE passenger LIKE 'reader %'").format(
                        sql.Identifier(bucket, "passenger_events")
                    )
                ).fetchall()
                found += [(f"{bucket} {str(who).split()[1]}", int(str(n))) for who, n in rows]
        assert sorted(found) == sorted(self.acknowledged)


def shard_behind(server: PgBouncerServer, alias: str, pair: ShardPair) -> str:
    with server.connect(alias) as conn:
        row = conn.execute("SELECT current_setting('port')::int, current_schema").fetchone()
        assert row is not None
        assert row[1] == alias
        return next(shard.name for shard in (pair.source, pair.target) if shard.server.port == row[0])


@contextmanager
def allowed(fleet: MovingFleet) -> Iterator[Work]:
    """A runner's work, with the cutover checked and approved."""
    with fleet.runner() as runner:
        step = runner.next_step()
        assert step is not None
        assert step.stage is Stage.CUTOVER
        allow(runner, step)
        yield runner.work


def owner(fleet: MovingFleet) -> str:
    bound = fleet.store.get(fleet.migration).bound
    return {0: fleet.pair.source.name, SLOTS: fleet.pair.target.name}[bound]


def touch(client: psycopg.Connection[tuple[object, ...]]) -> None:
    client.execute("UPDATE aircraft SET cycles = cycles")


@pytest.mark.slow
def test_a_cutover_and_a_reversal_under_an_application_that_knows_nothing(
    fleet: MovingFleet, pgbouncers: tuple[PgBouncerServer, PgBouncerServer]
) -> None:
    server, other = pgbouncers
    with Application(server) as one:
        one.wait_for_more(50)
        fleet.run_until(Stage.SOAK)
        one.wait_for_more(50)
        assert {shard_behind(each, bucket, fleet.pair) for each in pgbouncers for bucket in BUCKETS} == {
            fleet.pair.target.name
        }
        with fleet.runner() as runner:
            runner.reverse(ignore)
        one.wait_for_more(50)
    one.check(fleet.pair.source)
    assert server.paused() == other.paused() == []
    assert shard_behind(other, BUCKETS[0], fleet.pair) == fleet.pair.source.name
    assert fleet.leftovers() == []


def test_a_transaction_that_does_not_end_stops_the_cutover_and_nothing_else(
    waiting: tuple[MovingFleet, PgBouncerServer],
) -> None:
    fleet, server = waiting
    follow(fleet, server, pgbouncer_pause_s=2.0)
    with server.connect(BUCKETS[1]) as client, client.transaction():
        client.execute("SELECT 1")
        with allowed(fleet) as work, pytest.raises(FlipFailed) as failed:
            flip_paused(work, SLOTS)
        assert server.name in failed.value.message
        assert failed.value.details["aliases"] == [BUCKETS[1]]
        assert server.paused() == []
        assert owner(fleet) == fleet.pair.source.name
        touch(client)  # the open transaction has not noticed
    with server.connect(BUCKETS[0]) as client:
        touch(client)


def test_a_pgbouncer_that_is_away_stops_the_cutover_before_anything_is_done(
    waiting: tuple[MovingFleet, PgBouncerServer],
) -> None:
    fleet, server = waiting
    follow(fleet, server)
    with allowed(fleet) as work:
        flips = work.flips.next_number(fleet.migration)
        server.stop()
        try:
            with pytest.raises(ShardUnavailable, match=f"PgBouncer {server.name}"):
                flip_paused(work, SLOTS)
        finally:
            server.start()
        assert not work.facts().get(BEHIND)
        assert work.flips.next_number(fleet.migration) == flips


def test_an_alias_that_is_not_there_or_that_somebody_else_has_paused_stops_it_too(
    waiting: tuple[MovingFleet, PgBouncerServer],
) -> None:
    fleet, server = waiting
    follow(fleet, server)
    server.console(f'PAUSE "{BUCKETS[0]}"')
    with allowed(fleet) as work:
        with pytest.raises(ForeshardError, match="paused by somebody else"):
            flip_paused(work, SLOTS)
        assert server.paused() == [BUCKETS[0]]
        server.console(f'RESUME "{BUCKETS[0]}"')
        before = server.include.read_text()
        server.include.write_text("[databases]\n")
        server.console("RELOAD")
        try:
            with pytest.raises(NotFound, match=f"no alias {BUCKETS[0]}"):
                flip_paused(work, SLOTS)
        finally:
            server.include.write_text(before)
            server.console("RELOAD")
    assert owner(fleet) == fleet.pair.source.name


def test_a_pgbouncer_that_does_not_follow_leaves_the_flip_standing_and_its_clients_refused(
    waiting: tuple[MovingFleet, PgBouncerServer],
) -> None:
    fleet, server = waiting
    elsewhere = PgBouncerSettings(admin=server.admin, file=server.directory / "not-included.ini")
    fleet.configure(canary_percent=(), pgbouncers=(elsewhere,))
    with allowed(fleet) as work:
        flip_paused(work, SLOTS)
        with pytest.raises(ForeshardError, match="did not take") as failed:
            catch_up(work)
        assert "pgbouncer render" in str(failed.value)
        assert owner(fleet) == fleet.pair.target.name
        assert server.paused() == []
        with server.connect(BUCKETS[0]) as client:  # nothing is there for it, to read neither
            for statement in (b"UPDATE aircraft SET cycles = cycles", b"SELECT FROM aircraft"):
                with pytest.raises(psycopg.errors.UndefinedTable):
                    client.execute(statement)
    follow(fleet, server)
    with fleet.runner() as runner:  # it catches up by itself
        assert shard_behind(server, BUCKETS[0], fleet.pair) == fleet.pair.target.name
        assert not runner.work.facts()[BEHIND]
        flip_paused(runner.work, 0)
    assert shard_behind(server, BUCKETS[0], fleet.pair) == fleet.pair.source.name


@pytest.mark.slow
@pytest.mark.parametrize("failpoint", ["pgbouncer_paused", "flip_closed", "pgbouncer_flipped"])
def test_a_runner_that_dies_leaves_no_alias_paused_once_the_next_one_takes_over(
    waiting: tuple[MovingFleet, PgBouncerServer], failpoint: str
) -> None:
    fleet, server = waiting
    follow(fleet, server)
    settings = fleet.settings.migration.model_dump_json(include={"canary_percent", "pgbouncers", "lease_s"})
    died = subprocess.run(
        [sys.executable, "-m", "tests.integration.killed_runner", fleet.settings.control.dsn,
         str(fleet.state_dir), str(fleet.migration), settings],
        env={**os.environ, "FORESHARD_FAILPOINTS": failpoint},
        timeout=60, check=False,
    )  # fmt: skip
    assert died.returncode == -signal.SIGKILL
    assert server.paused() == sorted(BUCKETS)
    fleet.forget_lease()
    with fleet.runner() as runner:
        assert server.paused() == []
        for bucket in BUCKETS:
            assert shard_behind(server, bucket, fleet.pair) == owner(fleet)
            with server.connect(bucket) as client:
                touch(client)
        flip_paused(runner.work, 0)
    assert owner(fleet) == fleet.pair.source.name


def test_buckets_of_any_name_have_an_alias_that_leads_to_them(
    servers: ThrowawayServers,
) -> None:
    names = ("Tenant B", 'a"b', "it's; #=1", "pgbouncer", "ünïcode*", "100%", "x" * 63)
    pair = ShardPair(servers.new_shard("source"), servers.new_shard("target"))
    with pair.source.connect() as conn:
        for name in names:
            conn.execute(
                sql.SQL("CREATE SCHEMA {0}; GRANT USAGE ON SCHEMA {0} TO {1}").format(
                    sql.Identifier(name), sql.Identifier(APPLICATION)
                )
            )
    placement = Placement(dict.fromkeys(names, pair.source.name))
    found = aliases(RoutingMap(7, KeyType.INT8, names, placement), lambda _: pair.source.application_dsn)
    with PgBouncerServer(pair, ini(7, found)) as server:
        for alias in found:
            with server.connect(alias.name) as client:
                assert client.execute("SELECT current_schemas(false)::text[]").fetchone() == ([alias.bucket],)
            with Console(server.admin) as console:
                console.begin_pause(alias.name)
                assert console.paused(monotonic() + 5)
                assert server.paused() == [alias.name]
                console.resume(alias.name)
    for shard in (pair.source, pair.target):
        servers.drop(shard.server.name, shard.database)
