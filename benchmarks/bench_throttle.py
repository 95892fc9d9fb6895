"""What a backfill does to a busy source: `python -m benchmarks.bench_throttle --json FILE`.

An application loads the source to a share of its capacity, at a fixed rate throughout. In turns nothing else happens
(quiet), a backfill reads from it that heeds migration.backfill_max_utilisation (throttled), and one that does not
(unthrottled). Source, target, application and runner share the processors of one machine.

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
from psycopg import sql

from benchmarks.bench_backfill import MIGRATION, SERVER, cpu_s, say
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
from tests.integration.moving_fleet import allow, ignore

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
    options.add_argument("--max-utilisation", type=float, default=0.85, help="where throttled (default 0.85)")
    options.add_argument("--clients", type=int, default=24)
    options.add_argument(
        "--mb", type=int, default=600, help="heap to copy, in buckets of 20 MB (default 600)"
    )
    options.add_argument("--json", type=Path, metavar="FILE")
    chosen = options.parse_args()
    limits = {"quiet": None, "throttled": chosen.max_utilisation, "unthrottled": 1.0}
    shape = Shape(chosen.mb // 20, 20)
    phases: dict[str, list[Phase]] = {name: [] for name in limits}
    with ThrowawayServers(SERVER) as servers, tempfile.TemporaryDirectory() as state:
        pair = ShardPair(servers.new_shard("source"), servers.new_shard("target"))
        say(f"filling {shape.buckets} x {shape.megabytes} MB")
        fleet = OrdersFleet(pair, servers.new_control_database(), Path(state), MIGRATION, shape)
        let_application_in(fleet)
        script = TRANSACTION.format(bucket=shape.names[0], rows=shape.rows)
        dsn, server = pair.source.application_dsn, pair.source.server
        saturated(dsn, script, chosen.clients, WARM_UP_S)
        with took(server) as full:
            tps = saturated(dsn, script, chosen.clients, round(chosen.seconds))
        cores = full.source_cpu_s / (full.end - full.begin)
        say(f"saturated: {tps:.0f} transactions/s, the source uses {cores:.2f} processors")
        tell_capacity(fleet, cores)
        with sending(dsn, script, chosen.clients, chosen.load * tps) as sent:
            for turn in range(chosen.turns):
                for name, limit in limits.items():
                    phase = (
                        backfill(servers, fleet, limit, chosen.seconds)
                        if limit
                        else rest(server, chosen.seconds)
                    )
                    phases[name].append(phase)
                    say(f"turn {turn + 1} of {chosen.turns}: {name} {phase.copied / 1e6:.0f} MB copied")
        fleet.close()
    figures = {
        "capacity_tps": round(tps),
        "capacity_cores": round(cores, 2),
        "load": chosen.load,
        "max_utilisation": chosen.max_utilisation,
        **summary(phases, sent, cores),
    }
    publish("bench_throttle", figures, chosen.json)


def let_application_in(fleet: OrdersFleet) -> None:
    """Rights for the role that the application works as."""
    role = sql.Identifier(APPLICATION)
    with fleet.pair.source.connect() as conn:
        for bucket in map(sql.Identifier, fleet.buckets):
            conn.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(bucket, role))
            conn.execute(
                sql.SQL("GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA {} TO {}").format(bucket, role)
            )


def tell_capacity(fleet: OrdersFleet, cores: float) -> None:
    """What the throttle holds the source's CPU against."""
    source = fleet.pair.source
    TopologyStore(fleet.control).put_shard(
        ShardRecord(source.name, source.operator_dsn, source.application_dsn, {"cpu_cores": round(cores, 2)})
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
                if progress.text == "rows":
                    phase.copied = progress.done
                if progress.text != "rows" or time.time() > phase.begin + seconds:
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
