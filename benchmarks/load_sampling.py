"""What live sampling costs a shard, and how long a fleet takes: a part of `bench_load`.

By fleet shape (buckets x tables, each table with a primary key and one more index):

connect_ms         logging in, with SCRAM, on the same machine
sample_ms          all of a sample after that, as the collector sees it: counters, server's totals, the turn's sizes
counters_ms        the query for the buckets' counters alone, as the server times it in a fresh session
server_cpu_ms      CPU of the server's processes per sample, its new session included
core_share         that share of one core, at one sample a minute

fleet_s            `collect_fleet` over so many shards, readings and samples stored: second collection, and rows it made
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from psycopg import sql

from foreshard.clock import FleetClock
from foreshard.control.engine import ControlDatabase
from foreshard.control.load_store import LoadStore
from foreshard.fleet.grants import OPERATOR
from foreshard.fleet.throwaway import ShardDatabase, ThrowawayServers
from foreshard.load import collection
from foreshard.load.instant import CollectorClock
from foreshard.load.machine_source import MachineSource
from foreshard.load.postgres_source import PostgresSource
from foreshard.load.process import read_process
from foreshard.load.statistics import read_counters
from foreshard.postgres.connect import connect

SHAPES = ((1024, 4), (3, 16))
FLEET_SHAPE = (3, 16)
DATABASES = 10
CLOCK = CollectorClock(FleetClock())


@dataclass(frozen=True)
class Shard:
    """Many shards of the fleet share a database here; each is visited as if it were alone."""

    name: str
    dsn: str


def sampling(rounds: int = 60, shards: int = 1000) -> dict[str, object]:
    """The figures: single samples of each shape, ``rounds`` times, and two collections of ``shards`` shards."""
    figures: dict[str, object] = {}
    # A transaction that creates 64 buckets holds a lock on each table and index.
    with ThrowawayServers({"shared_buffers": "256MB", "max_locks_per_transaction": "512"}) as servers:
        for buckets, tables in SHAPES:
            shard = servers.new_shard(f"{buckets}x{tables}")
            names = fill(shard, buckets, tables)
            figures |= {
                f"{buckets}x{tables}.{key}": value for key, value in one_shard(shard, names, rounds).items()
            }
        figures |= fleet(servers, shards)
    return figures


def fill(shard: ShardDatabase, buckets: int, tables: int) -> list[str]:
    """Make the buckets, each table with some rows; returns their names."""
    names = [f"b{number:04d}" for number in range(buckets)]
    with shard.connect(OPERATOR) as conn:
        for begin in range(0, buckets, 64):
            with conn.transaction():
                for name in names[begin : begin + 64]:
                    conn.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
                    for number in range(tables):
                        table = sql.Identifier(name, f"t{number}")
                        conn.execute(
                            sql.SQL(
                                "CREATE TABLE {0} (id bigint PRIMARY KEY, owner int, note text);"
                                "CREATE INDEX ON {0} (owner); INSERT INTO {0} SELECT n, n, 'x' FROM"
                                " generate_series(1, 20) AS n"
                            ).format(table)
                        )
    with shard.connect() as conn:
        conn.execute("VACUUM ANALYZE pg_class")
        conn.execute("ANALYZE pg_namespace")
    return names


def one_shard(shard: ShardDatabase, buckets: Sequence[str], rounds: int) -> dict[str, object]:
    """Samples of one shard, each in a session of its own as `collect` takes them."""
    postmaster = shard.server.postmaster()
    assert postmaster is not None
    connects, samples, sized_to = [], [], None
    idle = _cpu_s(postmaster.pid), time.perf_counter()
    time.sleep(2)
    idle_share = (_cpu_s(postmaster.pid) - idle[0]) / (time.perf_counter() - idle[1])
    used, began = _cpu_s(postmaster.pid), time.perf_counter()
    for _ in range(rounds):
        start = time.perf_counter()
        with connect(shard.operator_dsn, application="foreshard collect", statement_timeout_s=10) as conn:
            connected = time.perf_counter()
            reading = read_counters(conn, shard.name, buckets, CLOCK.now, sized_to)
            samples.append(time.perf_counter() - connected)
        connects.append(connected - start)
        assert len(reading.buckets) == len(buckets)
        sized_to = reading.sized_to
    passed = time.perf_counter() - began
    cpu_s = (_cpu_s(postmaster.pid) - used - idle_share * passed) / rounds
    counters = [_server_time(shard, buckets) for _ in range(rounds)]
    return {
        "connect_ms": _ms(float(np.median(connects))),
        "sample_ms": _ms(float(np.median(samples))),
        "sample_p95_ms": _ms(float(np.quantile(samples, 0.95))),
        "counters_ms": round(float(np.median(counters)), 2),
        "counters_p95_ms": round(float(np.quantile(counters, 0.95)), 2),
        "server_cpu_ms": _ms(cpu_s),
        "core_share": round(cpu_s / 60, 5),
    }


def fleet(servers: ThrowawayServers, shards: int) -> dict[str, object]:
    """The second collection of a fleet: the first has no rates."""
    databases = [servers.new_shard(f"fleet-{n}", server_name="fleet") for n in range(DATABASES)]
    for database in databases:
        buckets = fill(database, *FLEET_SHAPE)
    asked = [
        Shard(f"shard-{number:04d}", databases[number % DATABASES].operator_dsn) for number in range(shards)
    ]
    control = ControlDatabase(servers.new_control_database())
    control.migrate()
    store, sources = LoadStore(control), (MachineSource(), PostgresSource())
    first = collection.collect_fleet(asked, lambda _: buckets, store, sources, CLOCK.now)
    time.sleep(max(0.0, collection.SOONEST_S - first.seconds) + 1)
    second = collection.collect_fleet(asked, lambda _: buckets, store, sources, CLOCK.now)
    control.close()
    assert not first.missing, first.missing
    assert not second.missing, second.missing
    name = f"fleet_{shards}x{FLEET_SHAPE[0]}"
    return {
        f"{name}.first_s": round(first.seconds, 1),
        f"{name}.second_s": round(second.seconds, 1),
        f"{name}.samples": second.added,
    }


def _server_time(shard: ShardDatabase, buckets: Sequence[str]) -> float:
    """Milliseconds that the server itself took for the counters, in a fresh session."""
    query = (files("foreshard.load") / "sql" / "bucket_counters.sql").read_bytes()
    with connect(shard.operator_dsn) as conn:
        plan = conn.execute(
            b"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) " + query, {"buckets": list(buckets)}
        )
        ((document,),) = plan.fetchall()
    return float(document[0]["Planning Time"]) + float(document[0]["Execution Time"])


def _cpu_s(pid: int) -> float:
    return read_process(pid, "shard", CLOCK.now()).cpu_s


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 2)
