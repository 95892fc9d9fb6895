"""kill -9 of a runner that copies: nothing of it goes on, and the next runner need not wait."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest

from foreshard.fleet.throwaway import ShardDatabase
from foreshard.migration.lifecycle import Stage
from foreshard.postgres import backends
from foreshard.postgres.connect import connect
from foreshard.postgres.guard import Side
from tests.integration.moving_fleet import MovingFleet, wait_until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def sessions(shard: ShardDatabase, name: str, waiting: bool = False) -> int:
    """Client sessions of that application_name, those that wait for a lock only if wanted."""
    with shard.connect() as conn:
        row = conn.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE %s"
            " AND datname = current_database() AND (wait_event_type = 'Lock' OR NOT %s)",
            (name, waiting),
        ).fetchone()
    assert row is not None
    return int(str(row[0]))


def sending(shard: ShardDatabase, name: str) -> bool:
    """Whether a session of that name has sent all that its client would take for now."""
    with shard.connect() as conn:
        row = conn.execute(
            "SELECT FROM pg_stat_activity WHERE application_name LIKE %s AND wait_event = 'ClientWrite'",
            (name,),
        ).fetchone()
    return row is not None


@contextmanager
def killed(fleet: MovingFleet, **migration: object) -> Iterator[psutil.Process]:
    """A runner at work; SIGKILL ends it after the block."""
    arguments = [fleet.control.conninfo, str(fleet.state_dir), str(fleet.migration), json.dumps(migration)]
    runner = subprocess.Popen([sys.executable, "-m", "tests.integration.killed_runner", *arguments], cwd=ROOT)
    try:
        yield psutil.Process(runner.pid)
    finally:
        os.kill(runner.pid, signal.SIGKILL)
        runner.wait()


def test_a_killed_runner_leaves_no_tool_at_work(fleet: MovingFleet) -> None:
    with fleet.pair.source.connect() as conn:  # more than fits into the pipe and the sockets' buffers
        conn.execute(
            "INSERT INTO b0000.passenger_events (tailnum, flight_id, kind, passenger, at, detail)"
            " SELECT tailnum, flight_id, 'seat', 'nobody', now(), repeat('x', 200)"
            "  FROM (SELECT tailnum, flight_id FROM b0000.flights LIMIT 1) f, generate_series(1, 60000)"
        )
    fleet.run_until(Stage.BACKFILL)
    with killed(fleet, backfill_max_bytes_per_s=20_000) as runner:
        name = f"foreshard migration {fleet.migration} lease %"
        wait_until(lambda: sending(fleet.pair.source, name), "psql reads the source")
        tools = runner.children(recursive=True)
        assert "psql" in {tool.name() for tool in tools}
    psutil.wait_procs(tools, timeout=5)
    assert not any(tool.is_running() and tool.status() != psutil.STATUS_ZOMBIE for tool in tools)
    wait_until(lambda: sessions(fleet.pair.source, name) == 0, "the source ends its sessions", 5)


def test_a_killed_runner_leaves_no_session_that_waits_for_a_lock(fleet: MovingFleet) -> None:
    fleet.run_until(Stage.BACKFILL)
    target = fleet.pair.target
    name = f"foreshard migration {fleet.migration} lease %"
    with target.connect() as in_the_way, in_the_way.transaction():
        in_the_way.execute("LOCK TABLE b0000.passenger_events IN ACCESS SHARE MODE")
        with killed(fleet):
            wait_until(lambda: sessions(target, name, waiting=True) == 1, "the copy waits for its lock")
        wait_until(lambda: sessions(target, name) == 0, "the server ends its session", 3)
    wait_until(lambda: len(fleet.store.abandoned()) == 1, "the dead runner's lease expires")
    fleet.run_until(Stage.CATCH_UP)


def test_sessions_of_earlier_leases_are_ended_and_no_others(copied_fleet: MovingFleet) -> None:
    with copied_fleet.runner() as runner:
        work = runner.work
        older, ours, another = (
            connect(work.target.dsn, application=name)
            for name in (
                f"{work.application} lease {work.lease.token - 1}",
                work.session_name,
                f"{work.application}0 lease 0",
            )
        )
        with closing(older), closing(ours), closing(another), work.connection(Side.TARGET) as conn:
            assert backends.end_replaced(conn, work.application, work.lease.token) == 1
            for alive in (ours, another):
                assert alive.execute("SELECT 1").fetchone() == (1,)
            with pytest.raises(psycopg.OperationalError):
                older.execute("SELECT 1")
