"""What the checks of a migration cost: `python -m benchmarks.bench_checks --json FILE`.

One bucket with five tables on two servers, in a real migration with both streams, guards and markers, nobody writing.
For each number of rows (of each table) and each checkpoint, the keys are <rows>x5.<checkpoint>.:

seconds           the whole gate: evidence of both sides collected, judged by Great Expectations, Data Docs built
scan_s            the comparison of the rows in it: digests of every chunk of both sides, again where they differ
judge_s           the gate's process, its start included
beside_scan_s     what is not the scan                                                       goal: 15 at most
ratio_scan        the whole over the scan                                                    goal: 1.3 at the largest
scan_share        the scan's share of the whole
bare_scan_s       the same digest of all rows of all tables, one statement a table, both sides at once, without chunks
ratio_bare_scan   the whole over that
memory_mb         the larger peak of the two processes                                       goal: 500 at most
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from psycopg import sql

from benchmarks import checks_run
from benchmarks.checks_fleet import BUCKET, TABLES, ChecksFleet
from benchmarks.report import publish
from foreshard.fleet.throwaway import ShardDatabase, ShardPair, ThrowawayServers
from foreshard.migration.lifecycle import Stage
from foreshard.postgres.pair import pinned_session
from foreshard.postgres.row_text import row_text
from foreshard.postgres.table_shape import read_shape
from tests.integration.moving_fleet import QUICK

SERVER = {"shared_buffers": "1GB", "max_wal_size": "4GB"}  # with fsync, unlike the servers of the tests
SETTINGS = QUICK.model_copy(update={"lease_s": 60.0, "canary_percent": (), "gate_ttl_s": 7200.0})
STAGES = (Stage.PREPARE, Stage.CUTOVER, Stage.FINALISE)
BYTES_A_ROW = 200
"""Of one row on both servers at once, with its primary keys."""

BYTES_BESIDE = 10 << 30
"""WAL of both servers, and what sorts need meanwhile."""


def main() -> None:
    """Run all sizes and print or write the result."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument(
        "--rows",
        default="1000000,10000000,50000000",
        metavar="N,N,...",
        help="of each of the five tables (default 1000000,10000000,50000000; the last needs 60 GB of disk)",
    )
    options.add_argument("--turns", type=int, default=3, help="gate and bare scan in turn (default 3)")
    options.add_argument("--json", type=Path, metavar="FILE")
    chosen = options.parse_args()
    figures: dict[str, object] = {}
    for rows in [int(number) for number in chosen.rows.split(",")]:
        needed = rows * len(TABLES) * BYTES_A_ROW + BYTES_BESIDE
        free = shutil.disk_usage(tempfile.gettempdir()).free
        if needed > free:
            options.error(f"--rows {rows} needs about {needed >> 30} GB of disk; {free >> 30} are free")
        # A scan of minutes is told from another one without a second turn.
        for found in one_size(rows, chosen.turns if rows <= 2_000_000 else 1):
            figures |= found
            publish("bench_checks", figures, chosen.json)  # what there is, should the rest fail


def one_size(rows: int, turns: int) -> Iterator[dict[str, object]]:
    """All three checkpoints of one migration, one after the other."""
    with ThrowawayServers(SERVER) as servers, tempfile.TemporaryDirectory() as state:
        say(f"{rows} rows in each of {len(TABLES)} tables: filling")
        pair = ShardPair(servers.new_shard("source"), servers.new_shard("target"))
        fleet = ChecksFleet(pair, servers.new_control_database(), Path(state), SETTINGS, rows)
        for stage in STAGES:
            say(f"on the way to {stage}")
            fleet.run_until(stage)
            yield at_checkpoint(fleet, pair, rows, turns, scanned=stage is not Stage.PREPARE)
        fleet.close()


def at_checkpoint(
    fleet: ChecksFleet, pair: ShardPair, rows: int, turns: int, *, scanned: bool
) -> dict[str, object]:
    """The gate of the next step and, where it reads rows, the bare scans, in turn."""
    runs: list[checks_run.Checked] = []
    bare: list[float] = []
    for _ in range(turns):
        runs.append(checks_run.run(fleet.settings, fleet.state_dir / "bench.json", fleet.migration))
        assert runs[-1].passed
        if scanned:
            bare.append(bare_scans(pair))
        say(f"{runs[-1]}" + (f", bare {bare[-1]:.2f} s" if bare else ""))
    median = {
        name: statistics.median(getattr(run, name) for run in runs)
        for name in ("seconds", "scan_s", "gate_s", "memory_mb", "gate_memory_mb")
    }
    seconds, scan = median["seconds"], median["scan_s"]
    figures: dict[str, object] = {
        "turns": turns,
        "seconds": seconds,
        "judge_s": median["gate_s"],
        "evaluated": runs[0].evaluated,
        "memory_mb": max(median["memory_mb"], median["gate_memory_mb"]),
    }
    if scanned:
        figures |= {
            "scan_s": scan,
            "beside_scan_s": round(seconds - scan, 2),
            "ratio_scan": round(seconds / scan, 3),
            "scan_share": round(scan / seconds, 3),
            "bare_scan_s": round(statistics.median(bare), 2),
            "ratio_bare_scan": round(seconds / statistics.median(bare), 3),
        }
    return {f"{rows}x{len(TABLES)}.{runs[0].checkpoint}.{name}": value for name, value in figures.items()}


def bare_scans(pair: ShardPair) -> float:
    """Seconds to digest all tables of both sides, one session each at once, one statement a table."""
    started = time.perf_counter()
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(_bare_scan, (pair.source, pair.target)))
    return time.perf_counter() - started


def _bare_scan(shard: ShardDatabase) -> None:
    with pinned_session(shard.operator_dsn) as session:
        for table in TABLES:
            shape = read_shape(session, BUCKET, table)
            assert shape is not None
            text = row_text([(sql.Identifier("t", one.name), one.common_type) for one in shape.columns])
            session.execute(
                sql.SQL(
                    'SELECT count(*), sum(hashtextextended({} COLLATE "C", 0))::text FROM {} AS t'
                ).format(text, sql.Identifier(BUCKET, table))
            ).fetchone()


def say(line: str) -> None:
    """A line of progress."""
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


if __name__ == "__main__":
    main()
