"""Rows by way of the runner: exact whatever dies, resumed where it stopped, refused to everybody else meanwhile."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import errors, sql
from sqlalchemy import func, select

from foreshard.control.migration_models import Migration
from foreshard.errors import ForeshardError, LeaseLost
from foreshard.fleet.grants import APPLICATION, OWNER
from foreshard.fleet.throwaway import ShardDatabase
from foreshard.migration.copying import upkeep
from foreshard.migration.lifecycle import Stage
from foreshard.migration.progress import Progress
from foreshard.migration.runner import Runner
from foreshard.postgres import block_ranges, copy_snapshot
from foreshard.postgres.connect import connect
from foreshard.postgres.copy_journal import CopyJournal
from tests.integration.moving_fleet import MovingFleet, allow, ignore, wait_until, writers

EVENTS = 60_000
"""Rows of one table; more than fits into the pipe and the sockets' buffers."""

_DIGEST = (
    "SELECT count(*), sum(hashtextextended(ROW(tailnum, event_id, kind, passenger, at, detail)::text, 0))"
    "  FROM b0000.passenger_events"
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def large(fleet: MovingFleet, monkeypatch: pytest.MonkeyPatch) -> MovingFleet:
    """The fleet with one table of many chunks."""
    monkeypatch.setattr(block_ranges, "CHUNK_BYTES", 2**20)
    with fleet.pair.source.connect() as conn:
        conn.execute(
            "INSERT INTO b0000.passenger_events (tailnum, flight_id, kind, passenger, at, detail)"
            " SELECT tailnum, flight_id, 'seat', md5(n::text), now(), repeat(md5(n::text), 3)"
            "  FROM (SELECT tailnum, flight_id FROM b0000.flights LIMIT 1) f, generate_series(1, %s) n",
            (EVENTS,),
        )
    return fleet


def slowly(fleet: MovingFleet, bytes_per_s: int) -> None:
    fleet.configure(backfill_max_bytes_per_s=bytes_per_s)


def digest(shard: ShardDatabase) -> object:
    with shard.connect() as conn:
        return conn.execute(_DIGEST).fetchone()


def copied_chunks(fleet: MovingFleet, runner: Runner) -> tuple[int, int]:
    """Attempt, and chunks of the big table that are there."""
    with connect(fleet.pair.target.operator_dsn) as conn:
        journal = CopyJournal(runner.work.names)
        journal.create(conn)
        copying = journal.copying(conn)
        if copying is None:
            return 0, 0
        return copying.attempt, sum(chunk.rows is not None for chunk in journal.chunks(conn))


@contextmanager
def copying(fleet: MovingFleet, runner: Runner) -> Iterator[threading.Thread]:
    """The stage backfill at work in another thread, with some chunks copied. ``failed`` of the thread: its error."""

    def work() -> None:
        step = runner.next_step()
        assert step is not None
        allow(runner, step)
        try:
            runner.perform(step, ignore)
        except Exception as error:
            setattr(thread, "failed", error)  # noqa: B010 - mypy knows no such attribute

    thread = threading.Thread(target=work)
    thread.start()
    try:
        wait_until(lambda: copied_chunks(fleet, runner)[1] >= 3, "some chunks are copied", 60)
        yield thread
    finally:
        thread.join()


def stop_reading(fleet: MovingFleet) -> None:
    """What a crash of the network, or of psql, does to the session that reads the source.

    The lock lets none of them come to its end: a chunk that fits into the pipe's and the sockets' buffers is read in a
    millisecond, and whoever looks for that session may never find it at work.
    """
    with fleet.pair.source.connect() as holder, fleet.pair.source.connect() as conn, holder.transaction():
        holder.execute("SET LOCAL statement_timeout = '30s'")
        holder.execute("LOCK TABLE b0000.passenger_events IN ACCESS EXCLUSIVE MODE")
        wait_until(
            lambda: (
                conn.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE query LIKE 'COPY (SELECT%' AND datname = current_database() AND state = 'active'"
                ).fetchone()
                is not None
            ),
            "a COPY is under way",
        )


@pytest.mark.slow
def test_a_source_that_breaks_off_costs_a_chunk_and_never_half_of_one(large: MovingFleet) -> None:
    large.run_until(Stage.BACKFILL)
    slowly(large, 1_000_000)
    with large.runner() as runner, copying(large, runner) as thread:
        stop_reading(large)
        thread.join()
        assert isinstance(getattr(thread, "failed", None), ForeshardError)
        attempt, chunks = copied_chunks(large, runner)
        assert attempt == 1
    slowly(large, 10**9)
    with large.runner() as runner:
        large.run_until(Stage.CATCH_UP, runner)
        assert copied_chunks(large, runner)[0] == 1, "it began anew though its snapshot lived"
        assert copied_chunks(large, runner)[1] > chunks
    assert digest(large.pair.target) == digest(large.pair.source)
    large.run_until(None)
    assert large.leftovers() == []


def test_a_copy_whose_snapshot_is_gone_begins_anew_and_leaves_no_dead_rows(large: MovingFleet) -> None:
    large.run_until(Stage.BACKFILL)
    slowly(large, 1_000_000)
    with large.runner() as runner, copying(large, runner):
        stop_reading(large)
    with connect(large.pair.source.operator_dsn) as conn:
        copy_snapshot.release(conn, runner.work.names)
    slowly(large, 10**9)
    with large.runner() as runner:
        large.run_until(Stage.CATCH_UP, runner)
        assert copied_chunks(large, runner)[0] == 2
    assert digest(large.pair.target) == digest(large.pair.source)
    sizes = []
    for shard in (large.pair.source, large.pair.target):
        with shard.connect() as conn:
            row = conn.execute("SELECT pg_relation_size('b0000.passenger_events')").fetchone()
            assert row is not None
            sizes.append(int(str(row[0])))
    assert sizes[1] <= 1.02 * sizes[0], sizes


def test_rows_that_failed_attempts_left_are_taken_away(large: MovingFleet) -> None:
    """As a subscription's copy leaves them, that was rolled back and is made again."""
    large.run_until(Stage.CATCH_UP)
    with large.pair.target.connect() as conn:
        # Else a vacuum that happens to come by takes them first.
        conn.execute("ALTER TABLE b0000.passenger_events SET (autovacuum_enabled = off)")
        conn.execute("SET session_replication_role = replica")
        with conn.transaction(force_rollback=True):
            conn.execute(
                "INSERT INTO b0000.passenger_events (tailnum, flight_id, kind, passenger, at, detail)"
                " SELECT 'N0', 1, 'seat', 'dead', now(), repeat('x', 100) FROM generate_series(1, 60000)"
            )
        before = conn.execute("SELECT pg_relation_size('b0000.passenger_events')").fetchone()
    with large.runner() as runner:
        assert upkeep.compact(runner.work, ignore) == ['"b0000"."passenger_events"']
        assert upkeep.compact(runner.work, ignore) == []
    with large.pair.target.connect() as conn:
        after = conn.execute("SELECT pg_relation_size('b0000.passenger_events')").fetchone()
    assert before is not None
    assert after is not None
    assert int(str(after[0])) < 0.6 * int(str(before[0]))


@pytest.mark.slow
def test_a_killed_runner_leaves_its_snapshot_to_the_next(large: MovingFleet) -> None:
    large.run_until(Stage.BACKFILL)
    killed = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.integration.killed_runner",
            large.control.conninfo,
            str(large.state_dir),
            str(large.migration),
        ],
        cwd=ROOT,
        env={**os.environ, "FORESHARD_FAILPOINTS": "backfill"},
        timeout=60,
        check=False,
    )
    assert killed.returncode < 0
    wait_until(lambda: len(large.store.abandoned()) == 1, "the dead runner's lease expires")
    with large.runner() as runner:
        attempt, chunks = copied_chunks(large, runner)
        assert attempt == 1
        assert chunks > 0
        large.run_until(Stage.CATCH_UP, runner)
        assert copied_chunks(large, runner)[0] == 1
    assert digest(large.pair.target) == digest(large.pair.source)


def test_an_abort_in_the_middle_of_a_copy_leaves_nothing(large: MovingFleet) -> None:
    large.run_until(Stage.BACKFILL)
    slowly(large, 1_000_000)
    with large.runner() as runner:
        with copying(large, runner):
            stop_reading(large)
        runner.abort(ignore)
    assert large.leftovers() == []
    assert large.schemas(large.pair.target) == []
    with large.pair.source.connect() as conn:
        held = conn.execute("SELECT FROM pg_stat_activity WHERE application_name LIKE '%snapshot'")
        assert held.fetchall() == []


def test_nobody_writes_where_a_copy_is_made(large: MovingFleet) -> None:
    large.run_until(Stage.BACKFILL)
    slowly(large, 1_000_000)
    with large.runner() as runner, copying(large, runner):
        with large.pair.target.connect(APPLICATION) as closed, pytest.raises(errors.InsufficientPrivilege):
            closed.execute("SELECT 1 FROM b0001.aircraft")
        with psycopg.connect(large.pair.target.superuser_dsn, autocommit=True) as application:
            for statement in (
                "INSERT INTO b0001.aircraft (tailnum) VALUES ('N1')",
                "UPDATE b0001.aircraft SET seats = 1",
                "DELETE FROM b0001.aircraft",
            ):
                with pytest.raises(psycopg.Error) as refused:
                    application.execute(statement.encode())
                assert refused.value.sqlstate == "FS001"
            application.execute(
                "SELECT set_config('foreshard.copies', %s, false)", (runner.work.names.schema,)
            )
            with pytest.raises(psycopg.Error) as refused:  # who knows the word is not the operator yet
                application.execute("DELETE FROM b0001.aircraft")
            assert refused.value.sqlstate == "FS001"
        with large.pair.target.connect() as owner, pytest.raises(psycopg.Error) as refused:
            owner.execute("TRUNCATE b0001.aircraft CASCADE")
        assert refused.value.sqlstate == "FS001"
        stop_reading(large)
    slowly(large, 10**9)
    large.run_until(Stage.CATCH_UP)
    with large.pair.target.connect() as conn:
        rows = conn.execute("SELECT count(*) FROM pg_trigger WHERE tgname = 'zz_foreshard_copy'").fetchone()
        assert rows == (0,)
        with pytest.raises(psycopg.Error) as refused:
            conn.execute("DELETE FROM b0001.aircraft")
        assert refused.value.sqlstate == "FS001"


def test_a_late_runner_cannot_copy_what_was_begun_anew(large: MovingFleet) -> None:
    large.run_until(Stage.CATCH_UP)
    with large.runner() as runner, connect(large.pair.target.operator_dsn) as conn:
        journal = CopyJournal(runner.work.names)
        chunk = journal.chunks(conn)[0]
        assert not journal.claim(conn, chunk), "it is copied"
        copying_now = journal.copying(conn)
        assert copying_now is not None
        with pytest.raises(LeaseLost):  # finished: nobody empties the tables any more
            journal.begin(conn, copying_now, copying_now.snapshot, [], [])
        with conn.transaction(force_rollback=True):
            conn.execute(f"DELETE FROM {runner.work.names.schema}.chunks".encode())
            with pytest.raises(LeaseLost):
                journal.claim(conn, chunk)


def test_what_changes_while_rows_are_copied_arrives_by_the_stream(large: MovingFleet) -> None:
    large.run_until(Stage.BACKFILL)
    slowly(large, 2_000_000)
    with large.runner() as runner, copying(large, runner), large.pair.source.connect() as conn:
        conn.execute("UPDATE b0000.passenger_events SET detail = 'changed' WHERE event_id % 7 = 0")
        conn.execute("DELETE FROM b0000.passenger_events WHERE event_id % 11 = 0")
    large.run_until(Stage.READ_SHADOW)
    assert digest(large.pair.target) == digest(large.pair.source)


def test_progress_tells_bytes_rows_and_every_table(large: MovingFleet) -> None:
    large.run_until(Stage.BACKFILL)
    told: list[Progress] = []
    with large.runner() as runner:
        step = runner.next_step()
        assert step is not None
        runner.perform(step, told.append)
    rows = [one for one in told if one.text == "rows"]
    assert rows[-1].fraction == 1.0
    assert all(part.finished for part in rows[-1].parts)
    by_name = {part.name: part for part in rows[-1].parts}
    assert by_name["b0000.passenger_events"].rows is not None
    assert by_name["b0000.passenger_events"].rows >= EVENTS
    assert [one.done for one in rows] == sorted(one.done for one in rows)
    made = [one for one in told if one.unit == "objects"]
    assert made[-1].fraction == 1.0
    detail = large.store.stage_runs(large.migration)[-1].detail
    assert detail["method"] == "pipe"
    assert detail["rows"] == sum(part.rows or 0 for part in rows[-1].parts)


def test_a_key_that_something_needs_comes_before_the_data(fleet: MovingFleet) -> None:
    with fleet.pair.source.connect() as conn:
        conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(OWNER)))
        conn.execute(
            "CREATE VIEW b0000.by_key AS SELECT tailnum, year, count(*) FROM b0000.aircraft GROUP BY tailnum"
        )
    fleet.run_until(None)
    with fleet.pair.target.connect() as conn:
        assert conn.execute("SELECT count(*) > 0 FROM b0000.by_key").fetchone() == (True,)


def test_a_table_without_its_guard_stops_the_migration_before_the_target_may_own_a_key(
    fleet: MovingFleet,
) -> None:
    fleet.run_until(Stage.CATCH_UP)
    with fleet.pair.target.connect() as conn:
        conn.execute("DROP TRIGGER zz_foreshard_guard ON b0001.aircraft")
    with pytest.raises(ForeshardError, match=r"b0001\.aircraft"):
        fleet.run_until(Stage.VERIFY)
    with fleet.runner() as runner:
        runner.abort(ignore)
    assert fleet.leftovers() == []


def test_a_writer_that_does_not_end_makes_the_slot_wait_and_is_told(
    fleet: MovingFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.run_until(Stage.BACKFILL)
    with fleet.pair.source.connect() as conn, monkeypatch.context() as impatient:
        impatient.setattr("foreshard.migration.copying.pipe.SLOT_PATIENCE_S", 1.0)
        conn.execute("BEGIN")
        conn.execute("SELECT pg_current_xact_id()")
        with pytest.raises(ForeshardError, match="has written and does not end"):
            fleet.run_until(Stage.CATCH_UP)
        conn.execute("ROLLBACK")
    fleet.run_until(None)
    assert fleet.leftovers() == []


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["runner", "source", "target"])
def test_whatever_dies_while_rows_are_copied_no_write_is_lost(large: MovingFleet, victim: str) -> None:
    """kill -9 again and again at random moments of the copy, under writers; then the rest of the migration."""
    draw = random.Random(victim)
    with writers(large) as writing:
        large.run_until(Stage.BACKFILL)
        slowly(large, 3_000_000)
        for _ in range(4):
            runner = start_runner(large, backfill_max_bytes_per_s=3_000_000)
            begun = time.monotonic()
            pause = draw.uniform(0.3, 3.0)  # a moment of the copy, or before it, or at its end
            wait_until(
                lambda begun=begun, pause=pause, runner=runner: (  # type: ignore[misc]
                    time.monotonic() - begun > pause or runner.poll() is not None
                ),
                "the moment comes",
            )
            if victim != "runner":
                shard = large.pair.source if victim == "source" else large.pair.target
                shard.server.kill9()
                shard.server.start()
            runner.kill()
            runner.wait()
            wait_until(lambda: not lease_holds(large), "the dead runner's lease expires")
        slowly(large, 10**9)
        large.run_until(None)
        writing.wait_for_more(20)
        writing.stop()
        result = large.checked(writing.ledger, large.pair.target)
    assert result.passed, result
    assert large.leftovers() == []


def start_runner(fleet: MovingFleet, **migration: object) -> subprocess.Popen[bytes]:
    """A process that drives the migration through its backfill, and no further."""
    return subprocess.Popen(
        [
            sys.executable, "-m", "tests.integration.killed_runner", fleet.control.conninfo, str(fleet.state_dir),
            str(fleet.migration), json.dumps(migration),
        ],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip


def lease_holds(fleet: MovingFleet) -> bool:
    with fleet.control.transaction() as session:
        row = session.get(Migration, fleet.migration)
        assert row is not None
        until = row.lease_expires_at
        return until is not None and until > session.execute(select(func.clock_timestamp())).scalar_one()
