"""The demo's workload as its own process, through restarts of servers, checked against the owners."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from foreshard.control.engine import ControlDatabase
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.fleet.airline import create_buckets
from foreshard.fleet.checker import CheckResult, OwnerReader, check
from foreshard.fleet.flights import BUCKETS, load_airline
from foreshard.fleet.grants import OPERATOR
from foreshard.fleet.ledger import Kind, Ledger, State
from foreshard.fleet.server import PostgresServer
from foreshard.fleet.throwaway import ShardPair
from foreshard.postgres import guard
from foreshard.topology.keys import KeyType
from foreshard.topology.placement import Placement

USED = BUCKETS[:6]
TABLES = {"aircraft": "tailnum", "flights": "tailnum", "passenger_events": "tailnum"}


class Demo:
    """Two shards that hold a small airline, three used buckets each, and the workload's files."""

    def __init__(self, pair: ShardPair, control: ControlDatabase, directory: Path) -> None:
        self.pair = pair
        self.directory = directory
        self.placement = Placement(
            {bucket: "source" if number % 2 else "target" for number, bucket in enumerate(BUCKETS)}
        )
        airline = load_airline().first(3)
        topology = TopologyStore(control)
        topology.describe_fleet(KeyType.TEXT, TABLES)
        for shard in (pair.source, pair.target):
            with shard.connect(OPERATOR) as conn:
                guard.install(conn)
                create_buckets(conn, self.placement.buckets_on(shard.name), airline, events_per_flight=1)
            topology.put_shard(ShardRecord(shard.name, shard.operator_dsn, shard.application_dsn, {}))
        topology.put_buckets(BUCKETS, self.placement)
        self.config = directory / "workload.json"
        self.config.write_text(
            json.dumps(
                {
                    "control_dsn": control.conninfo,
                    "ledger": str(directory / "ledger.sqlite"),
                    "status": str(directory / "status.json"),
                    "rates": dict.fromkeys(USED, 25.0),
                    "write_share": 0.5,
                    "writers": 4,
                    "readers": 3,
                }
            )
        )

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "foreshard.fleet.workload", "--config", str(self.config)],
            cwd=Path(__file__).parents[2],
        )

    def status(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.directory / "status.json").read_bytes())
        except FileNotFoundError:
            return {"state": "starting", "operations": {"acknowledged": 0, "reads": 0}}
        return found

    def ledger(self) -> Ledger:
        return Ledger(self.directory / "ledger.sqlite")

    def check(self) -> CheckResult:
        dsns = {shard.name: shard.application_dsn for shard in (self.pair.source, self.pair.target)}
        with closing(self.ledger()) as ledger:
            return check(ledger.operations(), ledger.starts(), OwnerReader(self.placement.of, dsns))


@pytest.fixture
def demo(shard_pair: ShardPair, control_dsn: str, tmp_path: Path) -> Iterator[Demo]:
    with closing(ControlDatabase(control_dsn)) as control:
        control.migrate()
        yield Demo(shard_pair, control, tmp_path)


def wait_until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    until = monotonic() + timeout_s
    while not condition():
        assert monotonic() < until, "waited in vain"
        sleep(0.02)


@pytest.mark.slow
def test_the_workload_survives_restarts_and_nothing_is_lost(
    demo: Demo, control_server: PostgresServer
) -> None:
    process = demo.start()
    try:
        wait_until(lambda: demo.status()["operations"]["acknowledged"] > 100)
        control_server.stop()
        demo.pair.source.server.kill9()
        before = demo.status()["operations"]["acknowledged"]
        wait_until(lambda: demo.status()["operations"]["acknowledged"] > before + 5)  # on the other shard
        demo.pair.source.server.start()
        wait_until(lambda: served_by(demo, "source") > 0)
        control_server.start()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.wait()
    status = demo.status()
    assert status["state"] == "stopped"
    counts = status["operations"]
    assert (counts["lost_update_visible"], counts["stale_reads"], counts["errors"]) == (0, 0, 0)
    result = demo.check()
    assert result.passed, result
    assert result.acknowledged == counts["acknowledged"] > 100
    assert result.refused == counts["refused"] + counts["errors"]
    assert result.unknown == counts["unknown"]


def served_by(demo: Demo, shard: str) -> int:
    """Writes that the shard acknowledged in the last second."""
    with closing(demo.ledger()) as ledger:
        history = [each for each in ledger.operations() if each.ended_at is not None]
    latest = max(each.ended_at for each in history if each.ended_at)
    return sum(
        each.shard == shard and each.ended_at is not None and (latest - each.ended_at).total_seconds() < 1
        for each in history
    )


def test_a_killed_workload_leaves_unknown_writes_and_goes_on_from_its_ledger(demo: Demo) -> None:
    for _ in range(2):
        (demo.directory / "status.json").unlink(missing_ok=True)
        process = demo.start()
        try:
            wait_until(lambda: demo.status()["operations"]["acknowledged"] > 50)
        finally:
            process.kill()
            process.wait()
    result = demo.check()
    assert result.passed, result
    assert result.acknowledged > 100


def test_the_checker_finds_what_is_done_to_the_owner(demo: Demo) -> None:
    process = demo.start()
    try:
        wait_until(lambda: demo.status()["operations"]["acknowledged"] > 100)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.wait()
    with closing(demo.ledger()) as ledger:
        events = [
            each
            for each in ledger.operations()
            if each.kind is Kind.EVENT and each.state is State.ACKNOWLEDGED
        ]
        phantom = ledger.intend(Kind.EVENT, events[0].tailnum, events[0].bucket)
        ledger.settle(phantom, State.REFUSED)
    on_source = [each for each in events if each.shard == "source"]
    lost, doubled = on_source[0], on_source[1]
    copy = "INSERT INTO {0}.passenger_events (tailnum, flight_id, op_id, kind, passenger, at, detail) SELECT"
    copy += " tailnum, flight_id, {1}, kind, passenger, at, detail FROM {0}.passenger_events WHERE op_id = %s"
    with demo.pair.source.connect() as conn:
        conn.execute(copy.format(doubled.bucket, "op_id").encode(), (doubled.op_id,))
        conn.execute(f"DELETE FROM {lost.bucket}.passenger_events WHERE op_id = %s".encode(), (lost.op_id,))
    with (demo.pair.source if events[0].shard == "source" else demo.pair.target).connect() as conn:
        conn.execute(
            f"UPDATE {events[0].bucket}.passenger_events SET op_id = %s WHERE event_id ="
            f" (SELECT min(event_id) FROM {events[0].bucket}.passenger_events WHERE op_id IS NULL)".encode(),
            (phantom,),
        )
        conn.execute(
            f"UPDATE {events[0].bucket}.aircraft SET cycles = cycles + 3 WHERE tailnum = %s".encode(),
            (events[0].tailnum,),
        )
    counts = demo.check().summary()
    assert (counts["lost"], counts["doubled"], counts["phantoms"]) == (1, 4, 1)


def test_a_bad_configuration_is_named(tmp_path: Path) -> None:
    path = tmp_path / "workload.json"
    path.write_text(json.dumps({"control_dsn": "", "ledger": "l", "status": "s", "writers": 0}))
    done = subprocess.run(
        [sys.executable, "-m", "foreshard.fleet.workload", "--config", str(path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "writers" in done.stderr
