"""kill -9 of a runner while psql makes indexes for it: nothing of it goes on, and the next runner need not wait."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psutil
import psycopg
import pytest

from foreshard.fleet.throwaway import ShardDatabase
from foreshard.migration.lifecycle import Stage
from foreshard.postgres import replication
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


def test_a_killed_runner_leaves_no_restore_at_work(fleet: MovingFleet) -> None:
    fleet.run_until(Stage.BACKFILL)
    target = fleet.pair.target
    name = f"foreshard migration {fleet.migration} lease %"
    with (
        target.connect() as in_the_way,
        in_the_way.transaction(),
    ):  # indexes cannot be made now; rows can be copied
        in_the_way.execute("LOCK TABLE b0000.passenger_events IN ROW EXCLUSIVE MODE")
        runner = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.integration.killed_runner",
                fleet.control.conninfo,
                str(fleet.state_dir),
                str(fleet.migration),
            ],
            cwd=ROOT,
        )
        try:
            wait_until(lambda: sessions(target, name, waiting=True) == 1, "psql waits for its lock")
            tools = psutil.Process(runner.pid).children(recursive=True)
            assert [tool.name() for tool in tools] == ["psql"]
        finally:
            os.kill(runner.pid, signal.SIGKILL)
            runner.wait()
        psutil.wait_procs(tools, timeout=5)
        assert not any(tool.is_running() and tool.status() != psutil.STATUS_ZOMBIE for tool in tools)
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
            assert replication.end_backends(conn, work.application, work.lease.token) == 1
            for alive in (ours, another):
                assert alive.execute("SELECT 1").fetchone() == (1,)
            with pytest.raises(psycopg.OperationalError):
                older.execute("SELECT 1")
