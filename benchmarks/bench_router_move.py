"""What an application sees of a migration: `python -m benchmarks.bench_router_move --json FILE`.

An application in a process of its own sends reads and writes of one row through the router, at a fixed rate and
whatever happens, first while nothing moves, then during a whole migration of all 48 buckets from preflight to its end,
then again while nothing moves. A request's time counts from when it was due. Two servers, the control database, the
application and the runner share the machine's processors. At the end the balances are held against the acknowledged
writes.

before.*, migration.*, after.*    p50_ms, p99_ms, max_ms; errors and requests as counts
stage.NAME.*                      the same for each stage, and how long it took
lost_writes                       acknowledged writes that are not there (negative: writes that are there twice)
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from benchmarks.accounts import AccountsFleet
from benchmarks.bench_backfill import say
from benchmarks.report import Quantiles, publish
from benchmarks.routed_load import Answered, Rate, Request, requesting
from foreshard.fleet.throwaway import ShardDatabase, ShardPair, ThrowawayServers
from foreshard.settings import MigrationSettings
from tests.integration.moving_fleet import allow, ignore

SERVER = {"shared_buffers": "128MB"}  # with fsync, unlike the servers of the tests


@dataclass(frozen=True)
class Phase:
    """A named span of time, in seconds since the epoch."""

    name: str
    begin: float
    end: float


def main() -> None:
    """Run it once and print or write the result."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--seconds", type=float, default=30.0, help="of each quiet phase (default 30)")
    options.add_argument(
        "--soak", type=float, default=10.0, help="of each canary step and after (default 10)"
    )
    options.add_argument("--rate", type=float, default=500.0, help="requests per second (default 500)")
    options.add_argument("--write-share", type=float, default=0.5)
    options.add_argument("--json", type=Path, metavar="FILE")
    chosen = options.parse_args()
    settings = MigrationSettings(
        canary_min_writes=10**9, canary_soak_s=chosen.soak, soak_s=chosen.soak, shadow_min_reads=200
    )
    with ThrowawayServers(SERVER) as servers, tempfile.TemporaryDirectory() as state:
        pair = ShardPair(servers.new_shard("source"), servers.new_shard("target"))
        fleet = AccountsFleet(pair, servers.new_control_database(), Path(state), settings)
        with closing(fleet):
            rate = Rate(chosen.rate, chosen.write_share)
            with requesting(fleet.control.conninfo, rate) as answered:
                phases = [quiet("before", chosen.seconds), *migration(fleet), quiet("after", chosen.seconds)]
            figures = {
                **summary(phases, answered),
                "lost_writes": answered.acknowledged_writes - balances(fleet, pair.target),
                "rate_per_s": chosen.rate,
                "write_share": chosen.write_share,
            }
            for error, count in Counter(one.error for one in answered.requests if one.error).most_common(5):
                say(f"{count} x {error}")
    publish("bench_router_move", figures, chosen.json)


def quiet(name: str, seconds: float) -> Phase:
    """Nothing moves."""
    begin = time.time()
    time.sleep(seconds)
    return Phase(name, begin, time.time())


def migration(fleet: AccountsFleet) -> list[Phase]:
    """A whole one: its stages, and all of it."""
    fleet.begin_migration()
    begin = time.time()
    stages: dict[str, Phase] = {}
    with fleet.runner() as runner:
        while (step := runner.next_step()) is not None:
            started = time.time()
            allow(runner, step)
            runner.perform(step, ignore)
            name = f"stage.{step.stage.value}"  # a stage may have several steps
            first = stages[name].begin if name in stages else started
            stages[name] = Phase(name, first, time.time())
            say(f"{step.name}: {time.time() - started:.1f} s")
    return [*stages.values(), Phase("migration", begin, time.time())]


def summary(phases: Sequence[Phase], answered: Answered) -> dict[str, object]:
    """Of each phase."""
    figures: dict[str, object] = {}
    for phase in phases:
        requests = answered.between(phase.begin, phase.end)
        figures[f"{phase.name}.seconds"] = round(phase.end - phase.begin, 2)
        figures[f"{phase.name}.requests"] = len(requests)
        figures[f"{phase.name}.errors"] = sum(one.error is not None for one in requests)
        figures |= quantiles(phase.name, requests)
    return figures


def quantiles(name: str, requests: Sequence[Request]) -> dict[str, object]:
    """None of a stage that was over before a request was due."""
    if not requests:
        return {}
    return {
        f"{key}_ms": value for key, value in Quantiles.of([one.ms for one in requests]).named(name).items()
    }


def balances(fleet: AccountsFleet, owner: ShardDatabase) -> int:
    """How often anybody added one."""
    total = 0
    with owner.connect() as conn:
        for bucket in fleet.buckets:
            query = sql.SQL("SELECT sum(balance) FROM {}").format(sql.Identifier(bucket, "accounts"))
            row = conn.execute(query).fetchone()
            assert row is not None
            total += int(str(row[0]))
    return total


if __name__ == "__main__":
    main()
