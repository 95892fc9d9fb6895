"""What the store of load bears: a part of `bench_load`.

For three sizes of fleet (shards x buckets on each), one sample a minute, four metrics of each bucket and eight of each
shard, against the embedded PostgreSQL with fsync:

minute_s          what it takes to store one minute of the whole fleet, one call of add a shard, by eight threads of one
                  process; median and the longest of the minutes, without the keeper
values_per_s      values stored a second; with_keep: with the keeper run after each minute, as collect does
rows_per_s        the same in rows of the tables (an array for each metric, shard and minute)
keep_s            a run of the keeper that rolls up a window of five minutes; keep_hour_s: one in which an hour is over
*_mb_per_day      on disk with indexes, MB (10^6 bytes); reckoned up to a day from the minutes measured
forecast_input_s  reading 42 days of hourly means of all buckets of one metric as series (made up in the database, one
                  metric only), grid_s: those by shard as arrays, as the forecast has them; rss_mb: memory of this
                  process at its most, after it
present_s, sizes_s, newest_s, count_live_s, series_s   other readings
"""

from __future__ import annotations

import random
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

from foreshard.control import load_partitions
from foreshard.control.engine import ControlDatabase
from foreshard.control.load_grid import load_grid
from foreshard.control.load_keeper import LoadKeeper
from foreshard.control.load_levels import FIVE_MINUTES, HOURS, LEVELS
from foreshard.control.load_sql import transaction
from foreshard.control.load_store import LoadStore
from foreshard.fleet.throwaway import ThrowawayServers
from foreshard.load.sample import Sample

SERVER = {"shared_buffers": "128MB"}  # with fsync, unlike the servers of the tests
START = datetime(2026, 3, 2, 10, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
THREADS = 8
RATE = "queries_per_s"
OF_BUCKETS = (RATE, "rows_read_per_s", "rows_written_per_s", "size_bytes")
OF_SHARDS = ("cpu_cores", "memory_bytes", "io_ops_per_s", "io_bytes_per_s")

FILL_HOUR = """
INSERT INTO load_five_minutes (metric, ts, shard, live, amounts)
SELECT metric, ts + n * interval '5 minutes', shard, live, amounts
FROM load_five_minutes CROSS JOIN generate_series(1, 11) AS n WHERE ts = %s
ON CONFLICT DO NOTHING
"""
FILL_HISTORY = """
INSERT INTO load_hours (metric, ts, shard, live, amounts)
SELECT h.metric, ts.ts, h.shard, h.live, h.amounts
FROM generate_series(%(since)s::timestamptz, %(until)s - interval '1 hour', interval '1 hour') AS ts (ts)
CROSS JOIN load_hours AS h JOIN load_metrics AS m ON m.id = h.metric
WHERE m.name = %(metric)s AND h.ts = %(until)s ORDER BY ts.ts, h.shard
"""
SIZES = """
SELECT sum(pg_total_relation_size(relid)) / 1e6 FROM pg_partition_tree(%s::regclass) WHERE isleaf
"""


Found = TypeVar("Found")


@dataclass(frozen=True)
class Size:
    """A fleet: so many shards, with so many buckets on each."""

    shards: int
    buckets: int
    minutes: int
    """Of samples that are stored: the more the fewer they are, or whole pages would make the days too large."""

    def __str__(self) -> str:
        return f"{self.shards}x{self.buckets}"


FULL = (Size(3, 16, 50), Size(100, 100, 25), Size(1000, 100, 10))
QUICK = (Size(3, 16, 10), Size(10, 20, 8))


def storing(days: int = 42, *, quick: bool = False) -> dict[str, object]:
    """Each size of fleet in a database of its own; means of ``days`` are read."""
    sizes, days = (QUICK, 3) if quick else (FULL, days)
    figures: dict[str, object] = {"threads": THREADS, "days": days}
    with ThrowawayServers(SERVER) as servers:
        for size in sizes:
            print(f"{size}: {size.shards * size.buckets:,} buckets", file=sys.stderr)
            with closing(ControlDatabase(servers.new_control_database())) as control:
                control.migrate()
                found = measure(control, size, days)
            figures |= {f"{size}.{name}": round(value, 3) for name, value in found.items()}
    return figures


def measure(control: ControlDatabase, size: Size, days: int) -> dict[str, float]:
    """All figures of one size."""
    figures = ingest(control, size)
    keep_hour(control, figures)
    per_day = {"raw": 24 * 60 / size.minutes, "five_minutes": 24.0, "hours": 24.0}
    with transaction(control) as conn:
        for level in LEVELS:
            row = conn.execute(SIZES, [level.table.as_string(conn)]).fetchone()
            assert row is not None
            figures[f"{level.name}_mb_per_day"] = float(row[0]) * per_day[level.name]
    fill_history(control, days)
    read(control, figures, size.minutes, days)
    return figures


def ingest(control: ControlDatabase, size: Size) -> dict[str, float]:
    """Minute after minute, with the keeper after each."""
    store, keeper = LoadStore(control), LoadKeeper(control)
    dice = random.Random(1)
    took, kept, values = [], {}, 0
    with ThreadPoolExecutor(THREADS) as threads:
        for minute in range(size.minutes):
            samples = [
                shard_samples(dice, size, number, START + (minute + 1) * MINUTE)
                for number in range(size.shards)
            ]
            seconds, new = timed(partial(_store, threads, store, samples))
            took.append(seconds)
            values += new
            now = START + (minute + 1) * MINUTE + timedelta(seconds=30)
            seconds, done = timed(partial(keeper.keep, now))
            kept[minute] = seconds, done.five_minutes
            print(
                f"  minute {minute + 1}: stored in {took[-1]:.2f} s, kept in {seconds:.2f} s", file=sys.stderr
            )
    rows = size.shards * (len(OF_BUCKETS) + len(OF_SHARDS)) * size.minutes
    # The first minute makes names and partitions; it counts in the longest, and in what is sustained.
    total, keeping = sum(took), sum(seconds for seconds, _ in kept.values())
    return {
        "values_per_minute": values / size.minutes,
        "minute_s.p50": statistics.median(took),
        "minute_s.max": max(took),
        "values_per_s": values / total,
        "rows_per_s": rows / total,
        "values_per_s.with_keep": values / (total + keeping),
        "rows_per_s.with_keep": rows / (total + keeping),
        "keep_s": max(seconds for seconds, windows in kept.values() if windows),
    }


def shard_samples(dice: random.Random, size: Size, number: int, ts: datetime) -> list[Sample]:
    """What one collection of one shard gives."""
    shard = f"shard{number:04}"
    buckets = [f"b{number * size.buckets + at:06}" for at in range(size.buckets)]
    found = [Sample(ts, shard, None, metric, dice.random() * 1e3) for metric in (*OF_SHARDS, *OF_BUCKETS[:3])]
    return found + [
        Sample(ts, shard, bucket, metric, dice.random() * 1e3) for bucket in buckets for metric in OF_BUCKETS
    ]


def keep_hour(control: ControlDatabase, figures: dict[str, float]) -> None:
    """The run of the keeper in which an hour is over: the windows not measured are copies of the first."""
    keeper = LoadKeeper(control)
    keeper.keep(START + timedelta(minutes=58))
    with transaction(control) as conn:
        conn.execute(FILL_HOUR, [START])
    figures["keep_hour_s"], done = timed(lambda: keeper.keep(START + HOUR + 2 * MINUTE))
    assert done.hours == 1


def fill_history(control: ControlDatabase, days: int) -> None:
    """Hours before the one measured, of one metric."""
    given = {"metric": RATE, "since": START - timedelta(days=days), "until": START}
    with transaction(control) as conn:
        times = [START - timedelta(days=day) for day in range(days + 1)]
        load_partitions.make(conn, load_partitions.needed(HOURS, times))
        conn.execute(FILL_HISTORY, given)
    with closing(control.connect()) as conn:
        conn.autocommit = True
        for level in LEVELS:
            conn.execute(b"VACUUM (ANALYZE) " + level.table.as_bytes(conn))  # as autovacuum does


def read(control: ControlDatabase, figures: dict[str, float], minutes: int, days: int) -> None:
    """What the forecast and others read."""
    store = LoadStore(control)
    since, until = START - timedelta(days=days), START + HOUR
    now = START + minutes * MINUTE
    figures["frame_s"], frame = timed(lambda: store.frame(RATE, since, until))
    assert frame.shape[0] == 24 * days + 1
    assert not frame.isna().to_numpy().any()
    del frame
    figures["forecast_input_s"], series = timed(lambda: store.bucket_series(RATE, since, until))
    figures["series"] = len(series)
    del series
    figures["grid_s"], _ = timed(lambda: load_grid(control, [RATE], [], since, until, HOUR))
    figures["rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    readings: dict[str, Callable[[], object]] = {
        "shard_series_s": lambda: store.shard_series(RATE, since, until),
        "present_s": lambda: store.present(now),
        "sizes_s": store.sizes,
        "newest_s": lambda: store.newest("shard0000"),
        "count_live_s": lambda: store.count_live(since, until),
        "series_s": lambda: store.series("shard0000", "b000000", RATE, since, until, HOUR),
        "series_raw_s": lambda: store.series("shard0000", "b000000", RATE, START, until),
        "series_five_minutes_s": lambda: store.series(None, "b000000", RATE, START, until, FIVE_MINUTES.step),
    }
    for name, reading in readings.items():
        figures[name], found = timed(reading)
        assert found is not None


def _store(threads: ThreadPoolExecutor, store: LoadStore, samples: Sequence[Sequence[Sample]]) -> int:
    return sum(threads.map(lambda one: store.add(one, "live"), samples))


def timed(work: Callable[[], Found]) -> tuple[float, Found]:
    """Seconds, and what it returned."""
    begin = time.perf_counter()
    found = work()
    return time.perf_counter() - begin, found
