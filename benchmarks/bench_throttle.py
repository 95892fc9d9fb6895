"""What a backfill does to a busy source: `python -m benchmarks.bench_throttle --json FILE`.

An application loads the source to a share of its capacity, at a fixed rate throughout. In turns nothing else happens
(quiet), a backfill reads from it that heeds migration.backfill_max_utilisation (throttled), and one that knows of no
capacity and so does not (unthrottled). The source and the application share one processor; target, runner and all
others have another one, as if it were another machine. With --together all share all processors: then the target
takes from the application, too.

p50_ms, p99_ms       of the application's transactions, from when they were due; medians over the turns
p99_change_pct       against quiet, in the same turn; median over the turns
copied_mb_s          how fast the backfill went meanwhile, MB (10^6 bytes) per second
source_utilisation   CPU of the source's server, as a share of what it uses when the application saturates it
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from psycopg import sql

from benchmarks.bench_backfill import MIGRATION, SERVER, cpu_s, say
from benchmarks.bench_guard import APPLICATION_CPU, TARGET_CPU, pin
from benchmarks.fixed_rate import Sent, saturated, sending
from benchmarks.orders import OrdersFleet, Shape
from benchmarks.report import publish
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.errors import ForeshardError
from foreshard.fleet.grants import APPLICATION
from foreshard.fleet.server import PostgresServer
from foreshard.fleet.throwaway import ShardPair, ThrowawayServers
from foreshard.migration.lifecycle import Stage
from foreshard.migration.progress import Progress
from foreshard.settings import MigrationSettings
from tests.integration.moving_fleet import allow, ignore

PHASES = ("quiet", "throttled", "unthrottled")
WARM_UP_S = 5
REST_S = 5.0
"""Before each phase: what the one before has delayed is made up for."""

# Enough reading for a source that its processors bound when it is saturated, not the disk that commits wait for.
TRANSACTION = """
\\set id random(1, {rows})
\\startpipeline
BEGIN;
SELECT foreshard.assert_owner('{bucket}', :id::bigint);
\\endpipeline
SELECT product, count(*), sum(amount) FROM {bucket}.orders WHERE id BETWEEN :id AND :id + 500 GROUP BY product;
UPDATE {bucket}.orders SET amount = amount + 1 WHERE id = :id;
COMMIT;
"""


ROWS = "rows"
"""How a backfill's reports name the copying of rows; the target's indexes come after it."""


class Enough(ForeshardError):
    """The phase is over; raised from a report to stop the backfill."""


@dataclass
class Phase:
    """From when to when (seconds since the epoch), bytes copied meanwhile, CPU seconds of the source's server."""

    begin: float = 0.0
    end: float = 0.0
    copied: float = 0.0
    source_cpu_s: float = 0.0


def main() -> None:
    """Run the phases in turn and print or write the result."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--turns", type=int, default=5)
    options.add_argument("--seconds", type=float, default=15.0, help="of each phase (default 15)")
    options.add_argument("--load", type=float, default=0.7, help="share of the capacity (default 0.7)")
    default = MigrationSettings().backfill_max_utilisation
    options.add_argument(
        "--max-utilisation",
        type=float,
        default=default,
        help=f"where throttled (default {default:g}, the setting's)",
    )
    options.add_argument("--clients", type=int, default=24)
    options.add_argument(
        "--mb", type=int, default=600, help="heap to copy, in buckets of 20 MB (default 600)"
    )
    options.add_argument("--together", action="store_true", help="no processor of its own for the source")
    options.add_argument("--json", type=Path, metavar="FILE")
    chosen = options.parse_args()
    all_cpus = psutil.Process().cpu_affinity()
    shape = Shape(chosen.mb // 20, 20)
    phases: dict[str, list[Phase]] = {name: [] for name in PHASES}
    with ThrowawayServers(SERVER) as servers, tempfile.TemporaryDirectory() as state:
        pair = ShardPair(servers.new_shard("source"), servers.new_shard("target"))
        say(f"filling {shape.buckets} x {shape.megabytes} MB")
        fleet = OrdersFleet(pair, servers.new_control_database(), Path(state), MIGRATION, shape)
        let_application_in(fleet)
        cpus = all_cpus if chosen.together else [APPLICATION_CPU]
        if not chosen.together:
            separate(servers, pair)
        script = TRANSACTION.format(bucket=shape.names[0], rows=shape.rows)
        dsn, server = pair.source.application_dsn, pair.source.server
        saturated(dsn, script, chosen.clients, WARM_UP_S, cpus)
        with took(server) as full:
            tps = saturated(dsn, script, chosen.clients, round(chosen.seconds), cpus)
        cores = full.source_cpu_s / (full.end - full.begin)
        say(f"saturated: {tps:.0f} transactions/s, the source uses {cores:.2f} processors")
        with sending(dsn, script, chosen.clients, chosen.load * tps, cpus) as sent:
            for turn in range(chosen.turns):
                for name in PHASES:
                    if name == "quiet":
                        phase = rest(server, chosen.seconds)
                    else:
                        tell_capacity(fleet, {"cpu_cores": cores} if name == "throttled" else {})
                        phase = backfill(servers, fleet, chosen.max_utilisation, chosen.seconds)
                    phases[name].append(phase)
                    say(f"turn {turn + 1} of {chosen.turns}: {name} {phase.copied / 1e6:.0f} MB copied")
        fleet.close()
    figures = {
        "capacity_tps": round(tps),
        "capacity_cores": round(cores, 2),
        "load": chosen.load,
        "together": chosen.together,
        "max_utilisation": chosen.max_utilisation,
        **summary(phases, sent, cores),
    }
    publish("bench_throttle", figures, chosen.json)


def separate(servers: ThrowawayServers, pair: ShardPair) -> None:
    """Give the source a processor, and the other one to all others, with what this process starts from now on."""
    pin(pair.source.server, APPLICATION_CPU)
    for server in (pair.target.server, servers.server("control")):
        pin(server, TARGET_CPU)
    psutil.Process().cpu_affinity([TARGET_CPU])


def let_application_in(fleet: OrdersFleet) -> None:
    """Rights for the role that the application works as."""
    role = sql.Identifier(APPLICATION)
    with fleet.pair.source.connect() as conn:
        for bucket in map(sql.Identifier, fleet.buckets):
            conn.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(bucket, role))
            conn.execute(
                sql.SQL("GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA {} TO {}").format(bucket, role)
            )


def tell_capacity(fleet: OrdersFleet, capacity: Mapping[str, float]) -> None:
    """What the throttle holds the source's use against. Of a source without known capacity it knows nothing."""
    source = fleet.pair.source
    TopologyStore(fleet.control).put_shard(
        ShardRecord(source.name, source.operator_dsn, source.application_dsn, dict(capacity))
    )


def rest(source: PostgresServer, seconds: float) -> Phase:
    """A phase in which only the application works."""
    time.sleep(REST_S)
    with took(source) as phase:
        time.sleep(seconds)
    return phase


def backfill(servers: ThrowawayServers, fleet: OrdersFleet, limit: float, seconds: float) -> Phase:
    """A phase in which rows are copied, to its end or that of the rows; nothing of it is left then."""
    target = servers.new_shard(f"target-{time.monotonic_ns()}", server_name="target")
    fleet.next_migration(target, MIGRATION.model_copy(update={"backfill_max_utilisation": limit}))
    with fleet.runner() as runner:
        fleet.run_until(Stage.BACKFILL, runner)
        step = runner.next_step()
        assert step is not None
        allow(runner, step)
        time.sleep(REST_S)
        with took(fleet.pair.source.server) as phase:

            def report(progress: Progress) -> None:
                if progress.text == ROWS:
                    phase.copied = progress.done
                    if progress.done >= progress.total or time.time() > phase.begin + seconds:
                        raise Enough("The phase is over.")

            with suppress(Enough):
                runner.perform(step, report)
        runner.abort(ignore)
    servers.drop("target", target.database)
    return phase


def summary(phases: Mapping[str, list[Phase]], sent: Sent, cores: float) -> dict[str, object]:
    """Medians over the turns, of each kind of phase."""
    found: dict[str, dict[str, list[float]]] = {}
    for name, each in phases.items():
        latencies = [np.quantile(sent.between(one.begin, one.end), [0.5, 0.99]) for one in each]
        found[name] = {
            "p50_ms": [float(p50) for p50, _ in latencies],
            "p99_ms": [float(p99) for _, p99 in latencies],
            "copied_mb_s": [one.copied / 1e6 / (one.end - one.begin) for one in each],
            "source_utilisation": [one.source_cpu_s / (one.end - one.begin) / cores for one in each],
        }
        quiet = found["quiet"]["p99_ms"]
        found[name]["p99_change_pct"] = [
            100 * (p99 / still - 1) for p99, still in zip(found[name]["p99_ms"], quiet, strict=True)
        ]
    figures: dict[str, object] = {}
    for name, keys in found.items():
        figures |= {f"{name}.{key}": round(statistics.median(values), 3) for key, values in keys.items()}
        figures[f"{name}.p99_ms_turns"] = [round(value, 2) for value in keys["p99_ms"]]
    return figures


@contextmanager
def took(source: PostgresServer) -> Iterator[Phase]:
    """When the block began and ended, and what the source's server used meanwhile."""
    phase = Phase(begin=time.time())
    used = cpu_s([source])
    yield phase
    phase.end, phase.source_cpu_s = time.time(), cpu_s([source]) - used


if __name__ == "__main__":
    main()
