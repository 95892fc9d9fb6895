"""How fast copies are compared, and how surely: `python -m benchmarks.bench_verify --json FILE`.

One bucket with one table on two servers, in a migration with both streams, guards and markers, before its first flip.

rows_s             rows of the source by the seconds of the whole comparison, from connecting to the result
bare_scan_rows_s   the same digest of all rows in one statement of one session on one side, without chunks
both_scans_rows_s  that statement on both sides at once: what this machine leaves of it to two servers
design_scan_rows_s the same with ROW(...)::text as the row's text, the digest that the design started from
reladiff_rows_s    reladiff on the same two tables, all columns, the start of its process included
writes_500         the comparison while the source takes 500 writes/s
fence_ms           under the same writes, how long they may have waited for a pair of fenced snapshots, all attempts
                   included; the comparisons above take one only if a row could not be judged otherwise
false_alarms       comparisons under writes that named a row, or left one undecided
injected, named    faults put into the target's copy under writes (a changed, a missing, a ghost row each time)
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from urllib.parse import quote

from psycopg import conninfo as libpq
from psycopg import sql

from benchmarks.ledger_fleet import BUCKET, COLUMNS, SPACING, TABLE, LedgerFleet, ledger_writers
from benchmarks.report import Quantiles, publish
from foreshard.fleet.throwaway import ShardDatabase, ShardPair, ThrowawayServers
from foreshard.migration.comparison import compare_all, differing, fence_of
from foreshard.migration.lifecycle import Stage
from foreshard.migration.work import Work
from foreshard.postgres.digests import TableComparison
from foreshard.postgres.fence import Paused
from foreshard.postgres.guard import Side
from foreshard.postgres.last_word import Word
from foreshard.postgres.pair import pinned_session
from foreshard.postgres.row_text import row_text
from foreshard.postgres.snapshot_pair import open_snapshot_pair
from foreshard.postgres.table_shape import read_shape
from tests.integration.moving_fleet import QUICK

SERVER = {"shared_buffers": "256MB", "max_wal_size": "4GB"}  # with fsync, unlike the servers of the tests
SETTINGS = QUICK.model_copy(update={"lease_s": 60.0})
WRITES_PER_S = 500


def main() -> None:
    """Run all parts and print or write the result."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--rows", type=int, default=5_000_000, help="of about 150 bytes (default 5000000)")
    options.add_argument("--turns", type=int, default=7, help="quiet comparisons, alternating (default 7)")
    options.add_argument("--runs", type=int, default=100, help="comparisons under writes (default 100)")
    options.add_argument("--fences", type=int, default=100, help="under writes (default 100)")
    options.add_argument("--injections", type=int, default=10, help="times three faults (default 10)")
    options.add_argument(
        "--reladiff", metavar="PATH", help="its executable; without it that figure is left out"
    )
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--json", type=Path, metavar="FILE")
    chosen = options.parse_args()
    figures: dict[str, object] = {"rows": chosen.rows}
    with ThrowawayServers(SERVER) as servers, tempfile.TemporaryDirectory() as state:
        pair = ShardPair(servers.new_shard("source"), servers.new_shard("target"))
        fleet = LedgerFleet(pair, servers.new_control_database(), Path(state), SETTINGS, chosen.rows)
        say(f"{chosen.rows} rows are there; copying")
        fleet.run_until(Stage.READ_SHADOW)
        with fleet.runner() as runner:
            parts: Sequence[Callable[[], dict[str, object]]] = (
                lambda: quiet(runner.work, pair, chosen.turns, chosen.reladiff),
                lambda: under_writes(runner.work, fleet, chosen.runs),
                lambda: fences(runner.work, fleet, chosen.fences),
                lambda: injections(runner.work, fleet, chosen.injections, chosen.seed),
            )
            for part in parts:
                figures |= part()
                if chosen.json is not None:
                    publish("bench_verify", figures, chosen.json)  # what there is, should the rest fail
        fleet.close()
    if "seconds" in figures and "writes_500.seconds" in figures:
        figures["writes_500.ratio_quiet"] = round(
            float(str(figures["writes_500.seconds"])) / float(str(figures["seconds"])), 3
        )
    publish("bench_verify", figures, chosen.json)


def quiet(work: Work, pair: ShardPair, turns: int, reladiff: str | None) -> dict[str, object]:
    """Ours, the bare scans and reladiff in turn, nobody writing."""
    seconds: dict[str, list[float]] = {"ours": [], "bare": [], "both": [], "design": [], "reladiff": []}
    rows = 0
    for turn in range(turns):
        (bare, design), (there, _) = bare_scans(pair.source), bare_scans(pair.target)
        seconds["bare"].append(timed(bare))
        seconds["both"].append(timed(partial(both, bare, there)))
        started = time.perf_counter()
        (compared,) = compare_all(work)
        seconds["ours"].append(time.perf_counter() - started)
        assert not differing([compared])
        rows = compared.rows
        seconds["design"].append(timed(design))
        if reladiff is not None:
            seconds["reladiff"].append(timed(lambda: run_reladiff(reladiff, pair)))
        say(
            f"quiet {turn + 1}/{turns}: "
            + ", ".join(f"{name} {s[-1]:.2f} s" for name, s in seconds.items() if s)
        )
    medians = {name: statistics.median(each) for name, each in seconds.items() if each}
    figures: dict[str, object] = {
        "turns": turns,
        "seconds": round(medians["ours"], 3),
        "rows_s": round(rows / medians["ours"]),
        "bare_scan_rows_s": round(rows / medians["bare"]),
        "ratio_bare_scan": ratio(seconds["bare"], seconds["ours"]),
        "both_scans_rows_s": round(rows / medians["both"]),
        "ratio_both_scans": ratio(seconds["both"], seconds["ours"]),
        "design_scan_rows_s": round(rows / medians["design"]),
        "ratio_design_scan": ratio(seconds["design"], seconds["ours"]),
    }
    if reladiff is None:
        return {**figures, "reladiff": "left out: --reladiff names none"}
    return {
        **figures,
        "reladiff_rows_s": round(rows / medians["reladiff"]),
        "ratio_reladiff": ratio(seconds["reladiff"], seconds["ours"]),
    }


def under_writes(work: Work, fleet: LedgerFleet, runs: int) -> dict[str, object]:
    """That many comparisons in which nothing may be named."""
    compared: list[TableComparison] = []
    seconds, alarms = [], 0
    began = time.perf_counter()
    with ledger_writers(fleet.pair.source, fleet.rows, WRITES_PER_S) as acknowledged:
        for run in range(runs):
            started = time.perf_counter()
            compared += compare_all(work)
            seconds.append(time.perf_counter() - started)
            alarms += bool(differing(compared[-1:]))
            if alarms or run % 5 == 4:
                say(
                    f"under writes {run + 1}/{runs}: {seconds[-1]:.2f} s, {compared[-1].rechecked} chunks,"
                    f" {compared[-1].rechecked_rows} rows looked at again, {alarms} false alarms"
                )
        elapsed = time.perf_counter() - began
    if not compared:
        return {}
    fences = [one.fence_ms for one in compared if one.fence_ms]
    return {
        "runs": runs,
        "false_alarms": alarms,
        "writes_500.seconds": round(statistics.median(seconds), 3),
        "writes_500.writes_per_s": round(acknowledged[0] / elapsed),
        "writes_500.rechecked_chunks": statistics.median(one.rechecked for one in compared),
        "writes_500.rechecked_rows": statistics.median(one.rechecked_rows for one in compared),
        "writes_500.fences": len(fences),
        "writes_500.fence_ms.max": round(max(fences, default=0.0), 3),
    }


def fences(work: Work, fleet: LedgerFleet, times: int) -> dict[str, object]:
    """Pairs of snapshots while everybody waits."""
    if not times:
        return {}
    paused: list[Paused] = []
    with (
        work.marker_line(Side.SOURCE) as there,
        work.marker_line(Side.TARGET) as back,
        open_snapshot_pair(work.source.dsn, work.target.dsn, 1) as sessions,
        ledger_writers(fleet.pair.source, fleet.rows, WRITES_PER_S),
    ):
        fence = fence_of(work, {Side.SOURCE: there, Side.TARGET: back})
        for _ in range(times):
            with ExitStack() as snapshots:

                def look(snapshots: ExitStack = snapshots) -> None:
                    snapshots.close()
                    snapshots.enter_context(sessions.at_one_moment())

                paused.append(fence(look))
    say(f"{times} fences, {sum(not one.held for one in paused)} could not be had")
    return {
        **Quantiles.of([one.ms for one in paused]).named("fence_ms"),
        "fences": times,
        "fences.not_held": sum(not one.held for one in paused),
        "fences.attempts": sum(one.attempts for one in paused),
    }


def injections(work: Work, fleet: LedgerFleet, times: int, seed: int) -> dict[str, object]:
    """Three faults at random places each time, every second time while nobody writes."""
    draw = random.Random(seed)
    named = 0
    for number in range(times):
        faults = Faults(draw, fleet.rows)
        writing = number % 2 == 0
        with (
            ledger_writers(fleet.pair.source, fleet.rows, WRITES_PER_S) if writing else nullcontext(),
            fleet.pair.target.connect() as target,
        ):
            target.execute("SET session_replication_role = replica")  # past the guard
            target.execute("SELECT pg_replication_origin_create('fault')")
            target.execute("SELECT pg_replication_origin_session_setup('fault')")  # nothing flows back
            try:
                faults.inject(target.execute)
                (compared,) = compare_all(work)
                faults.repair(target.execute)
            finally:
                target.execute("SELECT pg_replication_origin_session_reset()")
                target.execute("SELECT pg_replication_origin_drop('fault')")
        found = {(row.key, row.kind) for row in compared.differences}
        named += len(found & faults.expected)
        assert found <= faults.expected, f"false alarm: {found - faults.expected}"
        say(
            f"injections {number + 1}/{times}{' under writes' if writing else ''}:"
            f" {len(found & faults.expected)} of 3 named"
        )
    return {"injected": 3 * times, "named": named}


class Faults:
    """A changed, a missing and a ghost row, where no writer comes. Some ghosts are out of the source's range."""

    def __init__(self, draw: random.Random, rows: int) -> None:
        every = SPACING * SPACING
        self._changed, self._missing = (n * every for n in draw.sample(range(1, rows // SPACING), 2))
        inside = draw.randrange(1, rows) * SPACING + SPACING // 2
        self._ghost = draw.choice([inside, -draw.randrange(1, 1 << 62), (1 << 62) + draw.randrange(1 << 61)])
        self.expected = {
            (f"id={self._changed}", Word.CHANGED),
            (f"id={self._missing}", Word.MISSING),
            (f"id={self._ghost}", Word.GHOST),
        }

    def inject(self, execute: Callable[..., object]) -> None:
        """Into the target's copy."""
        table, both = f"{BUCKET}.{TABLE}", [self._changed, self._missing]
        execute(f"CREATE TEMP TABLE intact AS SELECT * FROM {table} WHERE id = ANY (%s)", (both,))
        execute(f"UPDATE {table} SET amount = amount + 0.01 WHERE id = %s", (self._changed,))
        execute(f"DELETE FROM {table} WHERE id = %s", (self._missing,))
        execute(f"INSERT INTO {table} (id, tenant, at, amount) VALUES (%s, 1, now(), 1)", (self._ghost,))

    def repair(self, execute: Callable[..., object]) -> None:
        """As it was."""
        table = f"{BUCKET}.{TABLE}"
        execute(f"DELETE FROM {table} WHERE id = ANY (%s)", ([self._changed, self._missing, self._ghost],))
        execute(f"INSERT INTO {table} SELECT * FROM intact")
        execute("DROP TABLE intact")


def bare_scans(shard: ShardDatabase) -> tuple[Callable[[], None], Callable[[], None]]:
    """The digest of the whole table, and that by ROW(...)::text, each by one statement of one session."""

    def scan(of_row: Callable[[], sql.Composable]) -> Callable[[], None]:
        def run() -> None:
            with pinned_session(shard.operator_dsn) as session:
                session.execute(
                    sql.SQL(
                        'SELECT count(*), sum(hashtextextended({} COLLATE "C", 0))::text FROM {} AS t'
                    ).format(of_row(), sql.Identifier(BUCKET, TABLE))
                ).fetchone()

        return run

    columns = sql.SQL(", ").join(sql.Identifier("t", name) for name in COLUMNS)
    with pinned_session(shard.operator_dsn) as session:
        shape = read_shape(session, BUCKET, TABLE)
    assert shape is not None
    text = row_text([(sql.Identifier("t", column.name), column.common_type) for column in shape.columns])
    return scan(lambda: text), scan(lambda: sql.SQL("ROW({})::text").format(columns))


def both(here: Callable[[], None], there: Callable[[], None]) -> None:
    """At once."""
    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(here), threads.submit(there)]:
            done.result()


def run_reladiff(executable: str, pair: ShardPair) -> None:
    """All columns, two threads for each database; it must find the tables equal."""
    done = subprocess.run(
        [
            *(executable, url(pair.source), f"{BUCKET}.{TABLE}", url(pair.target), f"{BUCKET}.{TABLE}"),
            *("--key-columns", "id", "--threads", "2", "--json", "--assume-unique-key"),
            *(part for name in COLUMNS[1:] for part in ("--columns", name)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stdout.strip(), done.stdout[:500]


def url(shard: ShardDatabase) -> str:
    """As reladiff reads it."""
    with shard.connect() as conn:
        parts = libpq.conninfo_to_dict(conn.info.dsn)
        password = conn.info.password
    user = quote(str(parts["user"]))
    return f"postgresql://{user}:{quote(password)}@{parts['host']}:{parts['port']}/{parts['dbname']}"


def timed(run: Callable[[], None]) -> float:
    """Seconds."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def ratio(others: Sequence[float], ours: Sequence[float]) -> float:
    """How many times as fast ours is: the median over turns that followed each other."""
    return round(statistics.median(a / b for a, b in zip(others, ours, strict=True)), 3)


def say(line: str) -> None:
    """A line of progress."""
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


if __name__ == "__main__":
    main()
