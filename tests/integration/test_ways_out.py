"""Steps that were cut off, and things in the way: a migration can always be resumed, aborted or reversed."""

from __future__ import annotations

import pytest
from psycopg import sql

from foreshard.control.migration_models import Migration
from foreshard.errors import ForeshardError, PreflightFailed
from foreshard.fleet.grants import OWNER
from foreshard.migration.lifecycle import Stage
from foreshard.postgres import guard, subscriptions
from foreshard.postgres.connect import Connection, connect
from tests.integration.moving_fleet import BUCKETS, MovingFleet, ignore


def abort(fleet: MovingFleet) -> None:
    with fleet.runner() as runner:
        runner.abort(ignore)
    assert fleet.store.get(fleet.migration).stage is Stage.ABORTED


def test_abort_while_the_forward_stream_is_broken(fleet: MovingFleet) -> None:
    """The target's own writes travel by the reverse stream; the forward one is what the abort wants to get rid of."""
    fleet.run_until(Stage.CUTOVER)
    with fleet.runner() as runner:
        forward = runner.work.names.forward
    with fleet.pair.target.connect() as conn:
        conn.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(sql.Identifier(forward)))
    abort(fleet)
    assert fleet.leftovers() == []
    assert fleet.schemas(fleet.pair.target) == []


def test_abort_leaves_a_schema_that_was_there_before(fleet: MovingFleet) -> None:
    with fleet.pair.target.connect() as conn:
        conn.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(BUCKETS[0])))
    with pytest.raises(PreflightFailed):
        fleet.run_until(Stage.PREPARE)
    abort(fleet)
    assert fleet.schemas(fleet.pair.target) == [BUCKETS[0]]


def test_a_schema_that_appears_after_preflight_is_not_taken_for_the_copy(fleet: MovingFleet) -> None:
    fleet.run_until(Stage.PREPARE)
    with fleet.pair.target.connect() as conn:
        conn.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(BUCKETS[0])))
    with pytest.raises(ForeshardError, match=BUCKETS[0]):
        fleet.run_until(Stage.BACKFILL)
    abort(fleet)
    assert fleet.schemas(fleet.pair.target) == [BUCKETS[0]]


def test_abort_of_a_migration_that_found_a_bare_shard(fleet: MovingFleet) -> None:
    with fleet.pair.target.connect() as conn:
        conn.execute("DROP TABLE foreshard.moving, foreshard.sides")
    abort(fleet)


def test_leftovers_are_those_of_this_migration_alone(fleet: MovingFleet) -> None:
    fleet.run_until(Stage.BACKFILL)
    with fleet.runner() as runner:
        names = runner.work.names
        later = type(names)(names.plane, names.number * 10 + 2)
        with connect(fleet.pair.source.operator_dsn) as conn:
            guard.create_side(conn, later, guard.Side.SOURCE, "target", ["elsewhere"])
    abort(fleet)


@pytest.mark.parametrize("method", ["pipe", "subscription"])
def test_resumed_after_the_runner_died_while_the_stream_was_paused(fleet: MovingFleet, method: str) -> None:
    fleet.configure(backfill=method)
    fleet.run_until(Stage.CATCH_UP)
    with fleet.runner() as runner:
        forward = runner.work.names.forward
    with fleet.pair.target.connect() as conn:  # as if it had died after the restore, before the ENABLE
        conn.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(sql.Identifier(forward)))
    with fleet.control.transaction() as session:
        session.query(Migration).update({"stage": Stage.BACKFILL.value})
    fleet.run_until(Stage.VERIFY)


def test_a_copy_commits_synchronously_until_it_is_complete(
    fleet: MovingFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a crash of the target forgets that a table is copied after its slot was dropped: it is stuck for ever."""
    original, seen = subscriptions.apply_asynchronously, []

    def look(conn: Connection, subscription: str) -> None:
        for change in (lambda: None, lambda: original(conn, subscription)):
            change()
            query = "SELECT subsynccommit FROM pg_subscription WHERE subname = %s"
            seen.append(conn.execute(query, (subscription,)).fetchone())

    monkeypatch.setattr(subscriptions, "apply_asynchronously", look)
    fleet.configure(backfill="subscription")
    fleet.run_until(Stage.CATCH_UP)
    assert seen == [("local",), ("off",)]


def test_resumed_after_the_target_died_between_slot_and_subscription(fleet: MovingFleet) -> None:
    fleet.run_until(Stage.BACKFILL)
    with fleet.runner() as runner:
        forward = runner.work.names.forward
    with fleet.pair.source.connect() as conn:
        conn.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (forward,))
    fleet.run_until(Stage.CATCH_UP)


def test_the_way_back_does_not_need_room_in_a_sequence(fleet: MovingFleet) -> None:
    with fleet.pair.source.connect() as conn:
        conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(OWNER)))
        conn.execute(
            sql.SQL("CREATE SEQUENCE {} AS int MAXVALUE 1500000").format(sql.Identifier(BUCKETS[0], "short"))
        )
    fleet.run_until(Stage.CUTOVER)
    abort(fleet)
