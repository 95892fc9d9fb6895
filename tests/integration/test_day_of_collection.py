"""Real servers are collected through restarts, resets, crashes, a failover and steps of a clock.

Every collection stands for a minute: the collector's clocks and the shards' are set, everything else is real. What
was stored is held against what the application did.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
import psycopg
import pytest
from psycopg import sql

from foreshard.control.engine import ControlDatabase
from foreshard.control.load_store import LoadStore
from foreshard.errors import ShardUnavailable
from foreshard.fleet.airline import create_buckets
from foreshard.fleet.flights import load_airline
from foreshard.fleet.grants import APPLICATION, OPERATOR
from foreshard.fleet.throwaway import ShardDatabase, ThrowawayServers
from foreshard.load import collection, postgres_source
from foreshard.load.collection import Collection, collect_fleet
from foreshard.load.counters import CounterReading
from foreshard.load.instant import Instant
from foreshard.load.machine_source import MachineSource
from foreshard.load.postgres_source import PostgresSource
from foreshard.load.sample import Sample
from foreshard.load.statistics import read_counters
from tests.integration.moving_fleet import wait_until
from tests.integration.standby import FailoverShard, failover_shard

T0 = datetime(2013, 11, 27, 18, tzinfo=UTC)
BUCKETS = {"one": ("b0003", "b0004"), "two": ("b0005",)}
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Shard:
    name: str
    dsn: str


class RecordingStore(LoadStore):
    """The real store; remembers what it took in."""

    def __init__(self, control: ControlDatabase) -> None:
        super().__init__(control)
        self.taken: list[Sample] = []

    def add_reading(
        self, shard: str, before: Any, after: Mapping[str, Any], samples: Sequence[Sample]
    ) -> int | None:
        added = super().add_reading(shard, before, after, samples)
        if added is not None:
            assert added == len(samples)
            self.taken += samples
        return added


@dataclass
class Day:
    """The fleet ``one`` (with a standby) and ``two``, an application on both, and the time."""

    one: FailoverShard
    two: ShardDatabase
    store: RecordingStore
    minute: int = 0
    clock_error: timedelta = timedelta(0)
    done: dict[tuple[int, str], int] = field(default_factory=dict)

    def now(self) -> Instant:
        """What the collector's clocks say."""
        return Instant(T0 + self.minute * MINUTE + self.clock_error, "boot", 60.0 * self.minute)

    def read(self, *arguments: Any) -> CounterReading:
        """The real counters, at the day's time by the shard's clock."""
        return replace(read_counters(*arguments), server_clock=T0 + self.minute * MINUTE)

    def work(self) -> None:
        """A minute of the application: each bucket is updated by key, each minute otherwise often."""
        self.minute += 1
        for shard in (self.one, self.two):
            refused = (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction)
            with suppress(*refused), shard.connect(APPLICATION) as conn:
                conn.execute("SET enable_seqscan = off")
                for number, bucket in enumerate(BUCKETS[shard.name], 1):
                    table = sql.Identifier(bucket, "aircraft")
                    (tail,) = (
                        conn.execute(sql.SQL("SELECT min(tailnum) FROM {}").format(table)).fetchone() or ()
                    )
                    for _ in range(10 * number + self.minute):
                        update = sql.SQL("UPDATE {} SET cycles = cycles + 1 WHERE tailnum = {}")
                        conn.execute(update.format(table, sql.Literal(tail)))
                    self.done[self.minute, bucket] = 1 + 10 * number + self.minute
                conn.execute("SELECT pg_stat_force_next_flush()")
                conn.execute("SELECT 1")

    def collect(self) -> Collection:
        """One run of `collect`."""
        shards = [Shard("one", self.one.operator_dsn), Shard("two", self.two.operator_dsn)]
        sources = [MachineSource(), PostgresSource()]
        return collect_fleet(shards, BUCKETS.__getitem__, self.store, sources, self.now)

    def told(self, bucket: str) -> dict[int, float]:
        """By minute of the fleet clock: how many scans of that bucket the stored rate says there were."""
        return {
            round((s.ts - T0) / MINUTE): s.value * 60
            for s in self.store.taken
            if s.bucket == bucket and s.metric == "queries_per_s"
        }


@pytest.fixture
def day(servers: ThrowawayServers, control_dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Day]:
    airline = load_airline().first(20)
    control = ControlDatabase(control_dsn)
    control.migrate()
    two = servers.new_shard("two")
    with failover_shard(servers, "one") as one:
        for shard in (one, two):
            with shard.connect(OPERATOR) as conn:
                create_buckets(conn, BUCKETS[shard.name], airline)
        one.standby.wait_until_level()
        running = Day(one, two, RecordingStore(control))
        monkeypatch.setattr(postgres_source, "read_counters", running.read)
        yield running
    control.close()
    servers.drop(two.name, two.database)


def kill_a_backend(shard: ShardDatabase) -> None:
    """As the out-of-memory killer does it: the postmaster lives on, all statistics are lost."""
    with shard.connect() as conn:
        (pid,) = conn.execute("SELECT pg_backend_pid()").fetchone() or ()
        psutil.Process(pid).kill()

    def is_back() -> bool:
        with suppress(psycopg.OperationalError), shard.connect() as conn:
            row = conn.execute("SELECT pg_stat_get_db_numbackends(oid) FROM pg_database LIMIT 1").fetchone()
            return row is not None and not psutil.pid_exists(pid)
        return False

    wait_until(is_back, "the server is back")


@pytest.mark.slow
def test_a_day_with_restarts_failover_and_clock_steps(day: Day) -> None:
    def reset() -> None:
        with day.one.connect() as conn:
            conn.execute("SELECT pg_stat_reset()")

    def restart() -> None:
        day.two.server.stop()
        day.two.server.start()

    def lead_to_the_standby() -> None:
        day.one.standby.wait_until_level()
        day.one.address.point_to(day.one.standby.port)
        day.one.address.cut()

    def promote() -> None:
        day.one.server.kill9()
        day.one.promote_standby()

    def clock_back() -> None:
        day.clock_error = -2 * MINUTE

    story: dict[int, Callable[[], None]] = {
        3: reset,
        5: restart,
        7: lambda: kill_a_backend(day.one),
        10: lead_to_the_standby,
        11: promote,
        13: day.two.server.kill9,
        15: day.two.server.start,
        17: clock_back,
    }
    missing = {}
    while day.minute < 22:
        story.get(day.minute + 1, lambda: None)()
        day.work()
        found = day.collect()
        if found.missing:
            missing[day.minute] = found.missing
    assert all(sample.value >= 0 for sample in day.store.taken)
    keys = [(s.ts, s.shard, s.bucket, s.metric) for s in day.store.taken]
    assert len(keys) == len(set(keys))

    # What is told is exact, in the minutes in which nothing happened.
    whole = set(range(2, 23))
    # The clock went back by two minutes: minutes 15 to 16 come again, and are told once.
    told_late = {minute: minute - 2 for minute in range(19, 23)}
    quiet = {
        "b0003": whole - {3, 7, 10, 11, 17, 18},
        "b0004": whole - {3, 7, 10, 11, 17, 18},
        "b0005": whole - {5, 13, 14, 15, 17, 18},
    }
    for bucket, minutes in quiet.items():
        expected = {told_late.get(minute, minute): float(day.done[minute, bucket]) for minute in minutes}
        assert day.told(bucket) == pytest.approx(expected), bucket

    # A shard that is away is one warning, and no reason not to collect the other.
    assert set(missing) == {10, 13, 14}
    assert "in recovery" in missing[10]["one"]
    assert set(missing[13]) == {"two"}
    metrics = {s.metric for s in day.store.taken if s.bucket is None}
    assert {"transactions_per_s", "wal_bytes_per_s", "io_ops_per_s", "cpu_cores", "memory_bytes"} <= metrics


def test_a_server_that_hangs_is_given_up(
    servers: ThrowawayServers, control_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped, not dead: its kernel goes on to answer, so that no timeout of a connection ends the wait."""
    control = ControlDatabase(control_dsn)
    control.migrate()
    store = RecordingStore(control)
    shard = servers.new_shard("two")
    monkeypatch.setattr(collection, "VISIT_S", 1.0)
    stopped = threading.Event()

    def stop_and_read(conn: Any, *arguments: Any) -> CounterReading:
        os.kill(conn.info.backend_pid, 19)
        stopped.set()
        return read_counters(conn, *arguments)

    monkeypatch.setattr(postgres_source, "read_counters", stop_and_read)
    asked = Shard("two", shard.operator_dsn)
    sessions = "SELECT pid FROM pg_stat_activity WHERE application_name = 'foreshard collect'"
    try:
        found = collect_fleet(
            [asked], lambda _: (), store, [PostgresSource()], lambda: Instant(datetime.now(UTC), "b", 1.0)
        )
        assert stopped.is_set()
        assert found.missing == {"two": "no answer within 1 s"}
        assert found.seconds < 5
        assert store.taken == []
        assert store.reading("two") is None
    finally:
        with shard.connect() as conn:
            for (pid,) in conn.execute(sessions.encode()).fetchall():
                os.kill(int(str(pid)), 18)
        control.close()
    servers.drop(shard.name, shard.database)


def test_shards_that_do_not_answer_are_said_without_secrets(control_dsn: str) -> None:
    control = ControlDatabase(control_dsn)
    control.migrate()
    nowhere = Shard("nowhere", "host=127.0.0.1 port=1 dbname=x user=x")
    with pytest.raises(ShardUnavailable):
        postgres_source.PostgresSource().collect(
            collection.Visit(nowhere, (), T0, lambda: Instant(T0, "b", 0.0)), None
        )
    found = collect_fleet(
        [nowhere],
        lambda _: (),
        LoadStore(control),
        [MachineSource(), PostgresSource()],
        lambda: Instant(T0, "b", 0.0),
    )
    assert list(found.missing) == ["nowhere"]
    assert found.missing["nowhere"].count("does not answer") == 1
    assert "\n" not in found.missing["nowhere"]
    control.close()
