"""What a migration costs the application: `python -m benchmarks.bench_guard --json FILE`.

Two servers with the same buckets get the same transactions in turns: on one the buckets are in migration (guards and
both streams), on the other they are not. One transaction asserts its owner together with BEGIN, as the router does,
reads an aircraft, counts a take-off and adds an event; every client sends the next one at once. Clients and the server
that they write to share one processor; the target and all others have another one, as if it were another machine.

tax_pct         throughput that guard and replication cost, median over pairs of turns
assertion_pct   the same for the owner's assertion alone: what an application pays while nothing moves
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchmarks.report import publish
from foreshard.fleet.airline import create_buckets
from foreshard.fleet.binaries import find_binaries
from foreshard.fleet.flights import load_airline
from foreshard.fleet.ledger import Start
from foreshard.fleet.server import PostgresServer
from foreshard.fleet.throwaway import ShardDatabase, ShardPair, ThrowawayServers
from foreshard.migration.lifecycle import Stage
from foreshard.postgres import guard
from foreshard.postgres.connect import connect
from tests.integration.moving_fleet import AIRCRAFT, BUCKETS, EVENTS_PER_FLIGHT, QUICK, MovingFleet

APPLICATION_CPU, TARGET_CPU = 0, 1
SERVER = {"shared_buffers": "128MB"}  # with fsync, unlike the servers of the tests
TRANSACTION = """
\\startpipeline
BEGIN;
{assertion}
\\endpipeline
SELECT cycles FROM {bucket}.aircraft WHERE tailnum = '{key}';
UPDATE {bucket}.aircraft SET cycles = cycles + 1 WHERE tailnum = '{key}';
INSERT INTO {bucket}.passenger_events (tailnum, flight_id, op_id, kind, passenger, at, detail)
VALUES ('{key}', {flight}, gen_random_uuid(), 'boarded', 'P1', now(), 'benchmark');
COMMIT;
"""
ASSERTION = "SELECT foreshard.assert_owner('{bucket}', '{key}'::text);"


def main() -> None:
    """Run the turns and print or write the result."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--turns", type=int, default=12, help="of each kind (default 12)")
    options.add_argument("--seconds", type=int, default=5, help="length of a turn (default 5)")
    options.add_argument("--clients", type=int, default=4)
    options.add_argument("--json", type=Path, metavar="FILE")
    chosen = options.parse_args()
    with ThrowawayServers(SERVER) as servers, tempfile.TemporaryDirectory() as state:
        pair = ShardPair(servers.new_shard("source"), servers.new_shard("target"))
        resting = servers.new_shard("resting")
        fleet = MovingFleet(pair, servers.new_control_database(), Path(state), QUICK)
        with resting.connect() as conn:
            create_buckets(conn, BUCKETS, load_airline().first(AIRCRAFT), events_per_flight=EVENTS_PER_FLIGHT)
        with connect(resting.operator_dsn) as operator:
            guard.install(operator)
        starts = fleet.starts()
        for server in (pair.source.server, resting.server):
            pin(server, APPLICATION_CPU)
        pin(pair.target.server, TARGET_CPU)
        fleet.run_until(Stage.READ_SHADOW)
        asserting = scripts(Path(state), "asserting", starts, ASSERTION)
        bare = scripts(Path(state), "bare", starts, "")
        turns = {"moving": (pair.source, asserting), "resting": (resting, asserting), "bare": (resting, bare)}
        rates: dict[str, list[float]] = {name: [] for name in turns}
        for _ in range(chosen.turns):
            for name, (shard, files) in turns.items():
                rates[name].append(throughput(shard, files, chosen.seconds, chosen.clients))
        fleet.close()
    figures = {
        "tax_pct": loss(rates["moving"], rates["resting"]),
        "assertion_pct": loss(rates["resting"], rates["bare"]),
        **{f"{name}.tps": round(statistics.median(each), 1) for name, each in rates.items()},
        "turns": chosen.turns,
        "clients": chosen.clients,
    }
    publish("bench_guard", figures, chosen.json)


def loss(slower: Sequence[float], faster: Sequence[float]) -> float:
    """Per cent, the median over turns that followed each other."""
    return round(100 * (1 - statistics.median(a / b for a, b in zip(slower, faster, strict=True))), 2)


def scripts(directory: Path, name: str, starts: Sequence[Start], assertion: str) -> list[Path]:
    """One transaction file a key; pgbench draws one of them for each transaction."""
    files = []
    for start in starts:
        names = {"bucket": start.bucket, "key": start.tailnum}
        text = TRANSACTION.format(**names, flight=start.flight_id, assertion=assertion.format(**names))
        files.append(directory / f"{name}-{start.tailnum}.sql")
        files[-1].write_text(text, encoding="utf-8")
    return files


def pin(server: PostgresServer, cpu: int) -> None:
    """All processes of a server, those that it starts later too, on one processor."""
    postmaster = server.postmaster()
    assert postmaster is not None
    for process in (postmaster, *postmaster.children()):
        process.cpu_affinity([cpu])


def throughput(shard: ShardDatabase, files: Sequence[Path], seconds: int, clients: int) -> float:
    """Transactions per second of that many clients for that long."""
    command = [
        str(find_binaries().tool("pgbench")),
        *("--no-vacuum", "--protocol=prepared", f"--time={seconds}", f"--client={clients}", "--jobs=1"),
        *(f"--file={file}" for file in files),
        shard.application_dsn,
    ]
    client = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    psutil.Process(client.pid).cpu_affinity([APPLICATION_CPU])
    output, _ = client.communicate()
    found = re.search(r"tps = ([0-9.]+)", output)
    assert found is not None, output
    return float(found[1])


if __name__ == "__main__":
    main()
