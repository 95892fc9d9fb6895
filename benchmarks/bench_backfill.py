"""How fast buckets are copied: `python -m benchmarks.bench_backfill --json FILE`.

ours           a migration's prepare and backfill: definitions, guards, rows, indexes, statistics
subscription   the same, with the rows copied by the subscription itself
pgcopydb       pgcopydb clone
pgdump         pg_dump into a directory, then pg_restore

All in turn, each into a fresh database, ending with the same tables, rows and indexes. Figures are MB (10^6 bytes) of
heap per second, medians over the rounds; cpu_s is what the servers and everything that was started here used.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import competitors
from benchmarks.orders import OrdersFleet, Shape
from benchmarks.report import publish
from foreshard.errors import ForeshardError
from foreshard.fleet.server import PostgresServer
from foreshard.fleet.throwaway import ShardDatabase, ShardPair, ThrowawayServers
from foreshard.migration.lifecycle import Stage
from tests.integration.moving_fleet import QUICK, ignore

SERVER = {  # with fsync, unlike the servers of the tests
    "shared_buffers": "512MB",
    "maintenance_work_mem": "256MB",
    "max_parallel_maintenance_workers": "2",
    # One checkpoint before every copy, none during it.
    "max_wal_size": "16GB",
    "checkpoint_timeout": "1h",
}
MIGRATION = QUICK.model_copy(update={"lease_s": 60.0})
METHODS = {"ours": {"backfill": "auto"}, "subscription": {"backfill": "subscription"}}
COMPETITORS: Mapping[str, Callable[[ShardDatabase, ShardDatabase], None]] = {
    "pgcopydb": competitors.pgcopydb,
    "pgdump": competitors.pg_dump,
}
CONTESTANTS = (*METHODS, *COMPETITORS)


@dataclass
class Timing:
    """What a copy took: seconds of wall time, and CPU seconds of all servers, this process and its children."""

    seconds: float = 0.0
    cpu_s: float = 0.0


def main() -> None:
    """Measure every shape and print or write the result."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--shapes", default="large,small")
    options.add_argument("--contestants", default=",".join(CONTESTANTS), help=f"of {','.join(CONTESTANTS)}")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--large-mb", type=int, default=1100, help="heap of a large bucket (default 1100)")
    options.add_argument("--large-buckets", type=int, default=1)
    options.add_argument("--small-mb", type=int, default=20, help="heap of a small bucket (default 20)")
    options.add_argument("--small-buckets", type=int, default=50)
    options.add_argument("--json", type=Path, metavar="FILE")
    chosen = options.parse_args()
    shapes = {
        "large": Shape(chosen.large_buckets, chosen.large_mb),
        "small": Shape(chosen.small_buckets, chosen.small_mb),
    }
    result: dict[str, object] = {}
    for name in chosen.shapes.split(","):
        if result and chosen.json is not None:
            publish("bench_backfill", result, chosen.json)  # what there is, should the rest fail
        figures = measure(name, shapes[name], chosen.contestants.split(","), chosen.rounds)
        result |= {f"{name}.{key}": value for key, value in figures.items()}
    publish("bench_backfill", result, chosen.json)


def measure(name: str, shape: Shape, contestants: list[str], rounds: int) -> dict[str, object]:
    """All contestants in turn, each of them first once in a while."""
    timings: dict[str, list[Timing]] = {contestant: [] for contestant in contestants}
    with ThrowawayServers(SERVER) as servers, tempfile.TemporaryDirectory() as state:
        pair = ShardPair(servers.new_shard("source"), servers.new_shard("target"))
        say(f"{name}: filling {shape.buckets} x {shape.megabytes} MB")
        fleet = OrdersFleet(pair, servers.new_control_database(), Path(state), MIGRATION, shape)
        heap_mb = fleet.heap_bytes() / 1e6
        wanted = fleet.copied(pair.source)
        for turn in range(rounds):
            start = turn % len(contestants)
            for contestant in contestants[start:] + contestants[:start]:
                target = servers.new_shard(f"{contestant}-{turn}", server_name="target")
                checkpoint(pair.source, target)
                timing = copy(contestant, fleet, target, wanted, servers.server("control"))
                timings[contestant].append(timing)
                say(
                    f"{name}, round {turn + 1} of {rounds}: {contestant} {heap_mb / timing.seconds:.1f} MB/s"
                    f" ({timing.seconds:.1f} s, {timing.cpu_s:.1f} CPU s)"
                )
                servers.drop("target", target.database)
        fleet.close()
    return {"heap_mb": round(heap_mb, 1), "rows": shape.rows * shape.buckets, **summary(heap_mb, timings)}


def copy(
    contestant: str, fleet: OrdersFleet, target: ShardDatabase, wanted: list[str], control: PostgresServer
) -> Timing:
    """One contestant's copy. Raises ForeshardError where it left something else than all have to."""
    servers = (fleet.pair.source.server, target.server, control)
    if contestant in COMPETITORS:
        fleet.uninstall()
        with timed(servers) as timing:
            COMPETITORS[contestant](fleet.pair.source, target)
        check(contestant, fleet.copied(target), wanted)
        return timing
    fleet.next_migration(target, MIGRATION.model_copy(update=METHODS[contestant]))
    with fleet.runner() as runner:
        fleet.run_until(Stage.PREPARE, runner)
        with timed(servers) as timing:
            fleet.run_until(Stage.CATCH_UP, runner)
        found = fleet.copied(target)
        runner.abort(ignore)
    check(contestant, found, wanted)
    check(contestant, [*fleet.leftovers(), *fleet.schemas(target)], [])
    return timing


def check(contestant: str, found: list[str], wanted: list[str]) -> None:
    """Whoever left something out would be faster."""
    if found != wanted:
        differing = sorted({*found} ^ {*wanted})
        raise ForeshardError(f"{contestant} did not leave what it has to: {differing[:5]}")


def summary(heap_mb: float, timings: Mapping[str, list[Timing]]) -> dict[str, object]:
    """Medians and ratios of them, and every round."""
    rates = {name: heap_mb / statistics.median(one.seconds for one in each) for name, each in timings.items()}
    figures: dict[str, object] = {f"{name}_mb_s": round(rate, 1) for name, rate in rates.items()}
    for rival in [name for name in COMPETITORS if {name, "ours"} <= rates.keys()]:
        figures[f"ratio_{rival}"] = round(rates["ours"] / rates[rival], 3)
    for name, each in timings.items():
        figures[f"{name}_cpu_s"] = round(statistics.median(one.cpu_s for one in each), 1)
        figures[f"{name}_rounds_s"] = [round(one.seconds, 2) for one in each]
    return figures


@contextmanager
def timed(servers: Sequence[PostgresServer]) -> Iterator[Timing]:
    """Take the time of the block."""
    timing = Timing()
    started, used = time.monotonic(), cpu_s(servers) + own_cpu_s()
    yield timing
    timing.seconds, timing.cpu_s = time.monotonic() - started, cpu_s(servers) + own_cpu_s() - used


def cpu_s(servers: Sequence[PostgresServer]) -> float:
    """CPU seconds that the servers have used, those of backends that ended as well."""
    total = 0.0
    for server in servers:
        postmaster = server.postmaster()
        assert postmaster is not None
        times = postmaster.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
        for backend in postmaster.children():
            with suppress(psutil.NoSuchProcess):
                times = backend.cpu_times()
                total += times.user + times.system
    return total


def own_cpu_s() -> float:
    """CPU seconds that this process has used, and those that it started, once they ended."""
    own = os.times()
    return own.user + own.system + own.children_user + own.children_system


def checkpoint(*shards: ShardDatabase) -> None:
    """So that no contestant pays for what the one before has left to be written."""
    for shard in shards:
        with shard.connect() as conn:
            conn.execute("CHECKPOINT")


def say(text: str) -> None:
    """A line for whom waits."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
