"""The demo's application data: an airline's operations, keyed by tail number, one schema a bucket."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from threading import Lock
from typing import LiteralString

import pandas as pd
import psycopg
from psycopg import sql

from foreshard.fleet.flights import BUCKETS, Airline
from foreshard.fleet.grants import APPLICATION, OWNER
from foreshard.topology.placement import Placement

TABLES = {"aircraft": "tailnum", "flights": "tailnum", "passenger_events": "tailnum"}
"""Every table of a bucket and its distribution column."""

EVENTS_PER_FLIGHT = 5  # makes 370 MB in all

AIRCRAFT = ("tailnum", "model", "manufacturer", "year", "seats")
FLIGHTS = (
    *("tailnum", "carrier", "flight_no", "origin", "dest", "sched_dep"),
    *("dep_delay", "arr_delay", "air_time", "distance"),
)

Connection = psycopg.Connection[tuple[object, ...]]


def initial_placement() -> Placement:
    """Where the demo's buckets stand at first: shard-3 was given all that came last, as happens in real fleets.

    shard-1 and shard-2 hold 14 buckets each, shard-3 holds 20, shard-4 is new and empty.
    """
    shards = ["shard-1"] * 14 + ["shard-2"] * 14 + ["shard-3"] * 20
    return Placement(dict(zip(BUCKETS, shards, strict=True)))


def fill_fleet(
    operator_dsns: Mapping[str, str],
    placement: Placement,
    airline: Airline,
    progress: Callable[[float, str], None] = lambda *_: None,
) -> None:
    """Create and fill the buckets that are not there yet, on all shards at once.

    ``placement`` must be the present one: a bucket that has moved would be made a second time. ``operator_dsns``:
    shard -> connection string of the operator. A bucket is created in one transaction: it is
    complete or absent. ``progress`` is told the fraction done, and what was done, from several threads in turn.
    """
    done: Counter[str] = Counter()
    lock = Lock()

    def report(bucket: str) -> None:
        with lock:
            done[placement.shard_of(bucket)] += 1
            counts = ", ".join(f"{shard}: {count}" for shard, count in sorted(done.items()))
            progress(done.total() / len(placement.of), f"buckets filled ({counts})")

    def fill(shard: str) -> None:
        with psycopg.connect(operator_dsns[shard], autocommit=True) as conn:
            create_buckets(conn, placement.buckets_on(shard), airline, report=report)

    shards = sorted(set(placement.of.values()))
    with ThreadPoolExecutor(len(shards)) as pool:
        list(pool.map(fill, shards))


def create_buckets(
    conn: Connection,
    buckets: Iterable[str],
    airline: Airline,
    *,
    events_per_flight: int = EVENTS_PER_FLIGHT,
    report: Callable[[str], None] = lambda _: None,
) -> None:
    """Create and fill ``buckets`` on one shard; those that are there stay as they are.

    ``conn`` is in autocommit, as the operator or a superuser. ``report`` is told each bucket that is ready.
    """
    aircraft = dict(list(airline.aircraft.groupby("bucket")))
    flights = dict(list(airline.flights.groupby("bucket")))
    for bucket in buckets:
        if conn.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [bucket]).fetchone() is None:
            with conn.transaction():
                owner = sql.Identifier(OWNER)
                conn.execute(
                    sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}").format(sql.Identifier(bucket), owner)
                )
                conn.execute(sql.SQL("SET LOCAL ROLE {}").format(owner))
                conn.execute(_script("airline_tables.sql", bucket))
                _copy(conn, bucket, "aircraft", aircraft.get(bucket, airline.aircraft[:0]), AIRCRAFT)
                _copy(conn, bucket, "flights", flights.get(bucket, airline.flights[:0]), FLIGHTS)
                conn.execute(_script("airline_events.sql", bucket, events=sql.Literal(events_per_flight)))
                conn.execute(_script("airline_keys.sql", bucket, application=sql.Identifier(APPLICATION)))
        report(bucket)


def _copy(conn: Connection, bucket: str, table: str, rows: pd.DataFrame, columns: tuple[str, ...]) -> None:
    # FREEZE spares vacuum the first visit; the table was created in this transaction.
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv, FREEZE)").format(
        sql.Identifier(bucket, table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with conn.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(rows.to_csv(columns=list(columns), header=False, index=False))


def _script(name: str, bucket: str, **parts: sql.Composable) -> sql.Composed:
    # Trusted like a literal: the file is part of this package.
    text: LiteralString = (files("foreshard.fleet") / "sql" / name).read_text(encoding="utf-8")
    return sql.SQL(text).format(bucket=sql.Identifier(bucket), **parts)
