"""Counters of real servers: what a query adds to them, and what makes them begin anew."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import psutil
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from foreshard.clock import FleetClock
from foreshard.errors import ShardUnavailable
from foreshard.fleet.airline import create_buckets
from foreshard.fleet.flights import Airline, load_airline
from foreshard.fleet.grants import APPLICATION, OPERATOR
from foreshard.fleet.throwaway import ShardDatabase, ThrowawayServers
from foreshard.load.counters import CounterReading
from foreshard.load.instant import CollectorClock
from foreshard.load.process import postmaster_of, process_samples, read_process
from foreshard.load.rates import rates
from foreshard.load.statistics import read_counters
from tests.integration.breakable_proxy import BreakableProxy
from tests.integration.moving_fleet import wait_until
from tests.integration.standby import standby_of
from tests.integration.versions import require

CLOCK = CollectorClock(FleetClock())
BUCKETS = ("b0003", "b0004")

Connection = psycopg.Connection[tuple[object, ...]]


@pytest.fixture(scope="module")
def airline() -> Airline:
    return load_airline().first(100)


@pytest.fixture
def filled(shard: ShardDatabase, airline: Airline) -> ShardDatabase:
    with shard.connect(OPERATOR) as conn:
        create_buckets(conn, BUCKETS, airline, events_per_flight=3)
    return shard


@pytest.fixture
def application(filled: ShardDatabase) -> Iterator[Connection]:
    with filled.connect(APPLICATION) as conn:
        yield conn


def read(shard: ShardDatabase, sized_to: str | None = None) -> CounterReading:
    with shard.connect(OPERATOR) as conn:
        return read_counters(conn, "source", BUCKETS, CLOCK.now, sized_to)


def metrics(early: CounterReading, late: CounterReading) -> set[tuple[str | None, str]]:
    """What two readings tell, as if a minute lay between them."""
    minute = timedelta(minutes=1)
    at = replace(early.at, wall=early.at.wall + minute, boot_s=early.at.boot_s + 60)
    later = replace(late, at=at, server_clock=early.server_clock + minute)
    return {(s.bucket, s.metric) for s in rates("source", at.wall, early, later)}


def flush(conn: Connection) -> None:
    """Counters are published when a session is idle for a second, or at once if asked for."""
    conn.execute("SELECT pg_stat_force_next_flush()")
    conn.execute("SELECT 1")


def difference(early: CounterReading, late: CounterReading, bucket: str = "b0003") -> tuple[int, int]:
    """Scans and rows written."""
    before, after = early.buckets[bucket], late.buckets[bucket]
    return after.scans - before.scans, after.rows_written - before.rows_written


def test_rows_keys_and_rights_are_as_the_application_needs_them(
    filled: ShardDatabase, application: Connection
) -> None:
    for table, rows in (("flights", 100), ("passenger_events", 300)):
        query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier("b0003", table))
        assert application.execute(query).fetchone() == (rows,)
    owners = filled.connect().execute(
        "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = ANY(%s)", [list(BUCKETS)]
    )
    assert owners.fetchall() == [("airline",)]
    constraints = filled.connect().execute(
        "SELECT contype, count(*) FROM pg_constraint WHERE connamespace = 'b0003'::regnamespace"
        " AND contype IN ('p', 'f') GROUP BY 1 ORDER BY 1"
    )
    assert constraints.fetchall() == [("f", 2), ("p", 3)]
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        application.execute(
            "INSERT INTO b0003.passenger_events (tailnum, flight_id, kind, passenger, at, detail)"
            " VALUES ('none', 1, 'booked', 'P1', now(), '')"
        )
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        application.execute("TRUNCATE b0003.aircraft")


def test_postgresql_puts_every_row_into_the_same_bucket(filled: ShardDatabase) -> None:
    with filled.connect() as conn:
        conn.execute("CREATE TABLE parted (tailnum text) PARTITION BY HASH (tailnum)")
        for number, bucket in ((3, "b0003"), (4, "b0004")):
            wrong = conn.execute(
                sql.SQL(
                    "SELECT count(*) FROM {} WHERE NOT satisfies_hash_partition('parted'::regclass, 48, {}, tailnum)"
                ).format(sql.Identifier(bucket, "flights"), number)
            )
            assert wrong.fetchone() == (0,)


def test_buckets_that_are_there_stay_as_they_are(filled: ShardDatabase, airline: Airline) -> None:
    with filled.connect(OPERATOR) as conn:
        conn.execute("DELETE FROM b0003.passenger_events")
        ready: list[str] = []
        create_buckets(conn, BUCKETS, airline, report=ready.append)
        assert ready == list(BUCKETS)
        assert conn.execute("SELECT count(*) FROM b0003.passenger_events").fetchone() == (0,)


def test_an_interrupted_bucket_is_absent(shard: ShardDatabase, airline: Airline) -> None:
    broken = Airline(airline.aircraft, airline.flights.assign(distance=None))
    with shard.connect(OPERATOR) as conn:
        with pytest.raises(psycopg.errors.NotNullViolation):
            create_buckets(conn, BUCKETS, broken)
        assert conn.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'b0003'").fetchone() is None


@pytest.mark.parametrize(
    ("statement", "scans", "written"),
    [
        ("SELECT model FROM b0003.aircraft WHERE tailnum = %(tail)s", 1, 0),
        ("UPDATE b0003.aircraft SET cycles = cycles + 1 WHERE tailnum = %(tail)s", 1, 1),
        (
            "INSERT INTO b0003.passenger_events (tailnum, flight_id, kind, passenger, at, detail)"
            " VALUES (%(tail)s, %(flight)s, 'boarded', 'P1', now(), 'row 1')",
            1,
            1,
        ),
    ],
)
def test_a_read_an_update_and_an_insert_are_one_scan_each(
    filled: ShardDatabase, application: Connection, statement: str, scans: int, written: int
) -> None:
    tail, flight = (
        application.execute("SELECT tailnum, flight_id FROM b0003.flights LIMIT 1").fetchone() or ()
    )
    # A table this small would be read from end to end.
    application.execute("SET enable_seqscan = off")
    flush(application)
    early = read(filled)
    for _ in range(10):
        application.execute(statement.encode(), {"tail": tail, "flight": flight})
    flush(application)
    late = read(filled)
    assert difference(early, late) == (10 * scans, 10 * written)
    assert difference(early, late, "b0004") == (0, 0)


def test_sizes_are_of_tables_and_indexes(filled: ShardDatabase) -> None:
    (size,) = (
        filled.connect()
        .execute(
            "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class"
            " WHERE relnamespace = 'b0003'::regnamespace AND relkind = 'r'"
        )
        .fetchone()
        or ()
    )
    assert read(filled).sizes["b0003"] == size


def test_sizes_are_read_in_turns(filled: ShardDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foreshard.load.statistics.SIZED_AT_ONCE", 1)
    turns, sized_to = [], None
    for _ in range(3):
        reading = read(filled, sized_to)
        turns.append(set(reading.sizes))
        sized_to = reading.sized_to
    assert turns == [{"b0003"}, {"b0004"}, {"b0003"}]


def test_only_the_buckets_asked_for_and_present_are_read(filled: ShardDatabase) -> None:
    with filled.connect(OPERATOR) as conn:
        assert set(read_counters(conn, "source", ("b0004", "b0040"), CLOCK.now).buckets) == {"b0004"}


def test_a_bucket_dropped_and_made_anew_has_no_rate(filled: ShardDatabase, airline: Airline) -> None:
    early = read(filled)
    with filled.connect() as conn:
        conn.execute("DROP SCHEMA b0003 CASCADE")
        create_buckets(conn, BUCKETS, airline, events_per_flight=10)
    found = metrics(early, read(filled))
    assert ("b0003", "queries_per_s") not in found
    assert ("b0004", "queries_per_s") in found


def test_a_bucket_that_got_a_table_with_a_past_has_no_rate(filled: ShardDatabase) -> None:
    with filled.connect() as conn:
        conn.execute("CREATE TABLE public.past AS SELECT n FROM generate_series(1, 1000) AS n")
        flush(conn)
        early = read(filled)
        conn.execute("ALTER TABLE public.past SET SCHEMA b0003")
    found = metrics(early, read(filled))
    assert ("b0003", "rows_written_per_s") not in found
    assert ("b0004", "rows_written_per_s") in found


@pytest.mark.parametrize(
    "reset",
    [
        "SELECT pg_stat_reset()",
        "SELECT pg_stat_reset_single_table_counters('b0003.aircraft'::regclass)",
        "SELECT pg_stat_reset_shared('io')",
        "SELECT pg_stat_reset_shared('wal')",
    ],
)
def test_reset_counters_are_seen(filled: ShardDatabase, application: Connection, reset: str) -> None:
    early = read(filled)
    with filled.connect() as conn:
        conn.execute(reset.encode())
    for _ in range(100):
        application.execute("SELECT count(*) FROM b0003.aircraft")
    flush(application)
    assert {metric for _, metric in metrics(early, read(filled))} == {"size_bytes"}


def test_a_server_that_crashed_and_came_back_is_seen(
    filled: ShardDatabase, servers: ThrowawayServers
) -> None:
    early = read(filled)
    filled.server.kill9()
    servers.server(filled.name)
    late = read(filled)
    assert early.epoch.started_at != late.epoch.started_at
    assert {metric for _, metric in metrics(early, late)} == {"size_bytes"}


def test_a_backend_that_crashed_takes_all_statistics_with_it_and_that_is_seen(filled: ShardDatabase) -> None:
    """The postmaster lives on, and its start time with it."""
    early = read(filled)
    with filled.connect() as conn:
        (backend,) = conn.execute("SELECT pg_backend_pid()").fetchone() or ()
        psutil.Process(backend).kill()
    wait_until(lambda: has_recovered(filled, early), "the server has recovered")
    late = read(filled)
    assert early.epoch.started_at == late.epoch.started_at
    assert early.epoch.resets != late.epoch.resets
    assert {metric for _, metric in metrics(early, late)} == {"size_bytes"}


@pytest.mark.parametrize("major", [16, 18])
def test_other_versions_count_the_same(servers: ThrowawayServers, airline: Airline, major: int) -> None:
    require(major)
    shard = servers.new_shard(f"source-{major}", major)
    with shard.connect(OPERATOR) as conn:
        create_buckets(conn, BUCKETS, airline, events_per_flight=3)
    early = read(shard)
    with shard.connect() as conn:
        conn.execute("UPDATE b0003.aircraft SET cycles = cycles + 1")
        conn.execute("CREATE TABLE b0004.filler AS SELECT n FROM generate_series(1, 100000) AS n")
        flush(conn)
    late = read(shard)
    rows = early.buckets["b0003"].rows_written
    assert late.buckets["b0003"].rows_written > rows > 0
    written = late.totals.wal_bytes - early.totals.wal_bytes
    assert 3_000_000 < written < 30_000_000
    assert late.totals.transactions > early.totals.transactions
    blocks = late.totals.io_bytes - early.totals.io_bytes
    assert blocks >= 8192 * 400
    assert 0 < late.totals.io_ops - early.totals.io_ops <= blocks / 8192
    servers.drop(shard.name, shard.database)


def test_a_standbys_counters_are_not_the_shards(filled: ShardDatabase) -> None:
    with (
        standby_of(filled.server, "spare") as standby,
        psycopg.connect(standby.dsn(OPERATOR, filled.database), autocommit=True) as conn,
        pytest.raises(ShardUnavailable, match="source is in recovery"),
    ):
        read_counters(conn, "source", BUCKETS, CLOCK.now)


def test_a_server_that_is_gone_is_an_error_of_ours(filled: ShardDatabase) -> None:
    with filled.connect(OPERATOR) as conn:
        filled.server.kill9()
        with pytest.raises(ShardUnavailable, match="counters of source"):
            read_counters(conn, "source", BUCKETS, CLOCK.now)


def test_a_locked_bucket_is_counted_all_the_same(
    filled: ShardDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foreshard.load.statistics.LOCK_TIMEOUT_MS", 50)
    with filled.connect() as holder, filled.connect(OPERATOR) as conn, holder.transaction():
        holder.execute("LOCK TABLE b0003.flights IN ACCESS EXCLUSIVE MODE")
        reading = read_counters(conn, "source", BUCKETS, CLOCK.now)
    assert set(reading.buckets) == set(BUCKETS)
    assert reading.sizes == {}


def test_the_servers_processes_are_measured(filled: ShardDatabase) -> None:
    postmaster = filled.server.postmaster()
    assert postmaster is not None
    early = read_process(postmaster.pid, "source", CLOCK.now())
    # The session that works ends before the second look: its CPU must not be lost with it.
    with filled.connect() as conn:
        assert postmaster_of(conn) == postmaster.pid
        conn.execute("SELECT sum(sqrt(n)) FROM generate_series(1, 3000000) AS n")
        (backend,) = conn.execute("SELECT pg_backend_pid()").fetchone() or ()
    while backend in {child.pid for child in postmaster.children()}:
        pass
    late = read_process(postmaster.pid, "source", CLOCK.now())
    assert late.cpu_s - early.cpu_s > 0.1
    found = {s.metric: s.value for s in process_samples("source", late.at.wall, early, late)}
    assert found["cpu_cores"] > 0.1
    assert 10**7 < found["memory_bytes"] < 10**9


def test_behind_a_tunnel_the_server_is_found_and_not_the_tunnel(filled: ShardDatabase) -> None:
    postmaster = filled.server.postmaster()
    assert postmaster is not None
    with BreakableProxy(filled.server.port) as tunnel:
        filled.server.passwords.copy_port(filled.server.port, tunnel.port)
        dsn = make_conninfo(filled.operator_dsn, port=tunnel.port)
        with psycopg.connect(dsn, autocommit=True) as conn:
            assert postmaster_of(conn) == postmaster.pid


def test_a_server_of_another_machine_is_not_taken_for_ours(
    filled: ShardDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose session has the number of a process here, but another age."""
    with filled.connect() as conn:
        monkeypatch.setattr("foreshard.load.process.time.time", lambda: time.time_ns() / 1e9 + 100)
        assert postmaster_of(conn) is None


def has_recovered(shard: ShardDatabase, early: CounterReading) -> bool:
    """Whether it answers, and counts anew."""
    try:
        return read(shard).epoch != early.epoch
    except (psycopg.OperationalError, ShardUnavailable):
        return False
