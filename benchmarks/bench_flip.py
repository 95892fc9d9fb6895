"""How long a flip refuses writes: `python -m benchmarks.bench_flip --json FILE`.

pause   from the first request for the exclusive lock to the commit of the open, failed attempts included
floor   in the same run, in turn with the flips: take and release that lock, drain one marker
client  what the writers saw meanwhile, from the first attempt to the acknowledgement
"""

from __future__ import annotations

import argparse
import itertools
import random
import tempfile
import time
from pathlib import Path

from psycopg import errors

from benchmarks.report import Quantiles, publish
from benchmarks.writers import Load, writing
from foreshard.fleet.throwaway import ShardPair, ThrowawayServers
from foreshard.migration.approval_settings import ApprovalSettings
from foreshard.migration.flip import flip
from foreshard.migration.lifecycle import Stage
from foreshard.migration.work import Work
from foreshard.postgres import guard
from foreshard.postgres.guard import Side
from foreshard.postgres.names import FENCE_CLASS
from foreshard.topology.keys import SLOTS
from tests.integration.moving_fleet import QUICK, MovingFleet
from tests.stress.kept_connections import kept_connections

LOADS = {
    "autocommit": Load(clients=6, writes_per_s=1000, pause_ms=None),
    "tx5": Load(clients=8, writes_per_s=1000, pause_ms=5.0),
    "tx50": Load(clients=40, writes_per_s=1000, pause_ms=50.0),
}
SERVER = {"shared_buffers": "128MB"}  # with fsync, unlike the servers of the tests
SETTINGS = QUICK.model_copy(update={"lease_s": 60.0})


def main() -> None:
    """Run every load and print or write the result."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--flips", type=int, default=1000, help="per load (default 1000)")
    options.add_argument("--loads", default=",".join(LOADS), help="of autocommit,tx5,tx50")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--json", type=Path, metavar="FILE")
    chosen = options.parse_args()
    result: dict[str, object] = {}
    with ThrowawayServers(SERVER) as servers, tempfile.TemporaryDirectory() as state:
        pair = ShardPair(servers.new_shard("source"), servers.new_shard("target"))
        fleet = MovingFleet(
            pair, servers.new_control_database(), Path(state), SETTINGS, ApprovalSettings(before="never")
        )
        fleet.run_until(Stage.VERIFY)
        with fleet.runner() as runner, kept_connections(runner.work):
            for name in chosen.loads.split(","):
                if chosen.json is not None:
                    publish("bench_flip", result, chosen.json)  # what there is, should the rest fail
                result |= {
                    f"{name}.{key}": value
                    for key, value in measure(
                        fleet, runner.work, LOADS[name], chosen.flips, chosen.seed
                    ).items()
                }
            flip(runner.work, 0)
        fleet.close()
    publish("bench_flip", result, chosen.json)


def measure(fleet: MovingFleet, work: Work, load: Load, flips: int, seed: int) -> dict[str, object]:
    """Flip to random bounds under one load, and take the floor in between."""
    draw = random.Random(seed)
    keys = [(start.bucket, start.tailnum) for start in fleet.starts()]
    pauses: list[float] = []
    floors: list[float] = []
    attempts = 0
    dsns = (fleet.pair.source.application_dsn, fleet.pair.target.application_dsn)
    with writing(load, dsns, keys) as written:
        while len(pauses) < flips:
            done = flip(work, draw.randrange(1, SLOTS))
            if done is not None:
                pauses.append(done.pause_ms)
                attempts += done.attempts
                floors.append(floor(work, draw.choice(list(Side))))
    return {
        **Quantiles.of(pauses).named("pause_ms"),
        **Quantiles.of(floors).named("floor_ms"),
        **Quantiles.of(written.latencies_ms).named("client_ms"),
        "flips": len(pauses),
        "attempts": attempts,
        "writes_per_s": round(written.per_second(load)),
        "refusals": written.refusals,
    }


def floor(work: Work, closing: Side) -> float:
    """Milliseconds to take and release the fence lock of one side and to drain one marker: nothing can be faster."""
    with work.connection(closing) as conn, work.marker_line(closing) as markers:
        guard.wait_for_fence(conn, work.settings.lock_timeout_ms, 1)
        lock = b"SELECT pg_advisory_xact_lock(%s, %s)"
        markers.drain(5)
        started = time.perf_counter()
        for attempt in itertools.count(1):
            try:
                conn.execute(lock, (FENCE_CLASS, work.names.number))
                break
            except errors.LockNotAvailable:
                time.sleep(random.uniform(0.5, 1.5) * work.settings.lock_timeout_ms / 1000)
                guard.wait_for_fence(conn, work.settings.lock_timeout_ms, attempt + 1)
        markers.drain(5)
        return (time.perf_counter() - started) * 1000


if __name__ == "__main__":
    main()
