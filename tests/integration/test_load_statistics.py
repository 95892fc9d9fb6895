"""Counters of real servers: what a query adds to them, and what makes them begin anew."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg import sql

from foreshard.errors import ShardUnavailable
from foreshard.fleet.airline import create_buckets
from foreshard.fleet.flights import Airline, load_airline
from foreshard.fleet.grants import APPLICATION, OPERATOR
from foreshard.fleet.throwaway import ShardDatabase, ThrowawayServers
from foreshard.load.process import listening_pid, process_samples, read_process
from foreshard.load.rates import rates
from foreshard.load.sample import CounterReading
from foreshard.load.statistics import read_counters

T0 = datetime(2013, 11, 27, 18, tzinfo=UTC)
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


def read(shard: ShardDatabase, seconds: int = 0) -> CounterReading:
    with shard.connect(OPERATOR) as conn:
        return read_counters(conn, "source", BUCKETS, T0 + timedelta(seconds=seconds))


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
    assert read(filled).buckets["b0003"].size_bytes == size


def test_only_the_buckets_asked_for_and_present_are_read(filled: ShardDatabase) -> None:
    with filled.connect(OPERATOR) as conn:
        assert set(read_counters(conn, "source", ("b0004", "b0040"), T0).buckets) == {"b0004"}


def test_a_bucket_dropped_and_made_anew_has_no_rate(filled: ShardDatabase, airline: Airline) -> None:
    early = read(filled)
    with filled.connect() as conn:
        conn.execute("DROP SCHEMA b0003 CASCADE")
        create_buckets(conn, BUCKETS, airline, events_per_flight=10)
    found = {(s.bucket, s.metric) for s in rates(early, read(filled, seconds=60))}
    assert ("b0003", "queries_per_s") not in found
    assert ("b0004", "queries_per_s") in found


def test_reset_counters_are_seen(filled: ShardDatabase, application: Connection) -> None:
    early = read(filled)
    with filled.connect() as conn:
        conn.execute("SELECT pg_stat_reset()")
    for _ in range(1000):
        application.execute("SELECT count(*) FROM b0003.aircraft")
    flush(application)
    late = read(filled, seconds=60)
    assert not [s for s in rates(early, late) if s.metric == "queries_per_s"]


def test_a_server_that_crashed_and_came_back_is_seen(
    filled: ShardDatabase, servers: ThrowawayServers
) -> None:
    early = read(filled)
    filled.server.kill9()
    servers.server(filled.name)
    late = read(filled, seconds=60)
    assert early.server_started_at != late.server_started_at
    assert not [s for s in rates(early, late) if s.metric == "queries_per_s"]


def test_a_server_that_is_gone_is_an_error_of_ours(filled: ShardDatabase) -> None:
    with filled.connect(OPERATOR) as conn:
        filled.server.kill9()
        with pytest.raises(ShardUnavailable, match="counters of source"):
            read_counters(conn, "source", BUCKETS, T0)


def test_a_locked_bucket_does_not_hold_the_reader_for_ever(
    filled: ShardDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foreshard.load.statistics.LOCK_TIMEOUT_MS", 50)
    with filled.connect() as holder, filled.connect(OPERATOR) as conn, holder.transaction():
        holder.execute("LOCK TABLE b0003.flights IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(ShardUnavailable, match="lock timeout"):
            read_counters(conn, "source", BUCKETS, T0)


def test_the_servers_processes_are_measured(filled: ShardDatabase) -> None:
    postmaster = filled.server.postmaster()
    assert postmaster is not None
    assert listening_pid(filled.server.port) == postmaster.pid
    early = read_process(postmaster.pid, "source", T0)
    # The session that works ends before the second look: its CPU must not be lost with it.
    with filled.connect() as conn:
        conn.execute("SELECT sum(sqrt(n)) FROM generate_series(1, 3000000) AS n")
        (backend,) = conn.execute("SELECT pg_backend_pid()").fetchone() or ()
    while backend in {child.pid for child in postmaster.children()}:
        pass
    late = read_process(postmaster.pid, "source", T0 + timedelta(seconds=1))
    found = {s.metric: s.value for s in process_samples(early, late)}
    assert found["cpu_cores"] > 0.1
    assert 10**7 < found["memory_bytes"] < 10**9
