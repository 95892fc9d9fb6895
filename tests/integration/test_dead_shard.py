"""A shard that is gone for good: the living one is cleaned alone, or the way out is refused with its reason."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import psycopg
import pytest
from psycopg import sql
from typer.testing import CliRunner

from foreshard.cli import app
from foreshard.errors import ForeshardError, IllegalTransition, ShardUnavailable, StreamBroken
from foreshard.fleet.throwaway import ShardDatabase
from foreshard.migration import removal, retreat
from foreshard.migration.flip import flip
from foreshard.migration.janitor import clean
from foreshard.migration.lifecycle import Stage
from foreshard.migration.stages import finalise, soak
from foreshard.migration.work import Work
from foreshard.postgres import guard, replication_slots, subscriptions
from foreshard.postgres.connect import connect
from tests.integration.moving_fleet import BUCKETS, MovingFleet, ignore

pytestmark = pytest.mark.slow

TOUCH = sql.SQL("UPDATE {} SET cycles = cycles")


@contextmanager
def work_on(fleet: MovingFleet) -> Iterator[Work]:
    """The lease, as a runner has it that came in while the shard still answered."""
    lease = fleet.store.acquire(fleet.migration, "test", None, 60)
    try:
        yield Work(fleet.control, fleet.settings, lease)
    finally:
        fleet.store.release(lease)


@contextmanager
def dead(shard: ShardDatabase) -> Iterator[None]:
    """The shard's server is killed, and comes back after the block."""
    shard.server.kill9()
    try:
        yield
    finally:
        shard.server.start()


def accepts(shard: ShardDatabase) -> bool:
    """Whether the shard takes a write to a moved bucket."""
    with psycopg.connect(shard.superuser_dsn) as conn:  # the guard binds it too; closed copies do not
        try:
            conn.execute(TOUCH.format(sql.Identifier(BUCKETS[0], "aircraft")))
        except psycopg.Error as refused:
            if refused.sqlstate not in ("FS001", "FS002"):
                raise
            return False
        conn.rollback()
        return True


def test_abort_without_the_target_cleans_the_source_and_the_janitor_does_the_rest(fleet: MovingFleet) -> None:
    fleet.run_until(Stage.VERIFY)
    assert accepts(fleet.pair.source)
    with work_on(fleet) as work:
        with dead(fleet.pair.target):
            late = work.flips.intend(work.lease, 0, 400)  # journalled, and not closed yet
            retreat.validate(work)
            work.store.go_to(work.lease, Stage.ABORTING)
            done = retreat.run(work, ignore)
            assert "does not answer and owns nothing" in done["note"]
            assert f"subscription {work.names.forward}" in done["left_to_the_janitor"]
            assert f"copy {BUCKETS[0]}" in done["left_to_the_janitor"]
            with pytest.raises(psycopg.Error), work.connection(guard.Side.SOURCE) as source:
                guard.close(source, work.names, late.flip_no, 400, uuid.uuid4())
            assert work.flips.unfinished(fleet.migration) is None
            assert accepts(fleet.pair.source)
        work.store.go_to(work.lease, Stage.ABORTED)
    left = fleet.leftovers()
    assert left
    assert all(one.startswith("target: ") for one in left)
    assert not accepts(fleet.pair.target)
    assert any(resource.removed_at is None for resource in fleet.store.resources(fleet.migration))
    clean(fleet.control)
    assert fleet.leftovers() == []
    assert fleet.schemas(fleet.pair.target) == []
    assert accepts(fleet.pair.source)
    assert all(resource.removed_at is not None for resource in fleet.store.resources(fleet.migration))


def test_a_dead_target_that_owns_keys_is_waited_for(copied_fleet: MovingFleet) -> None:
    with work_on(copied_fleet) as work:
        flip(work, 400)
        with dead(copied_fleet.pair.target):
            for step in (retreat.validate, lambda work: retreat.run(work, ignore)):
                with pytest.raises(ShardUnavailable, match="owns slots below 400"):
                    step(work)  # type: ignore[operator]
        retreat.validate(work)
        flip(work, 0)


def test_a_promise_that_came_too_late_keeps_the_source_fenced(
    copied_fleet: MovingFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A late runner closes between our look at the bound and our cancel: the target may open any moment."""
    original = guard.cancel
    with work_on(copied_fleet) as work:
        intent = work.flips.intend(work.lease, 0, 400)

        def overtaken(conn: object, names: object, flip_no: int) -> bool:
            monkeypatch.setattr(guard, "cancel", original)
            with work.connection(guard.Side.SOURCE) as source:
                guard.close(source, work.names, intent.flip_no, 400, uuid.uuid4())
            return original(conn, names, flip_no)  # type: ignore[arg-type]

        monkeypatch.setattr(guard, "cancel", overtaken)
        monkeypatch.setattr(type(work), "answers", lambda _, side: side is guard.Side.SOURCE)
        with pytest.raises(ShardUnavailable, match="owns slots below 400"):
            retreat.run(work, ignore)
        monkeypatch.undo()
        with connect(work.source.dsn) as source:
            assert guard.state(source, work.names) is not None
    with copied_fleet.runner("next") as runner:  # settles it
        assert runner.work.bounds().source == runner.work.bounds().target
        flip(runner.work, 0)


def test_finalise_without_the_source_wants_a_persons_word(fleet: MovingFleet) -> None:
    fleet.run_until(Stage.SOAK)
    with work_on(fleet) as work:
        with pytest.raises(ForeshardError, match="source answers"):
            finalise.end_way_back(work, "Ada", without_source=True)
        with pytest.raises(ForeshardError, match="is whole"):
            finalise.end_way_back(work, "Ada", without_source=False)
        with dead(fleet.pair.source):
            with pytest.raises(ForeshardError, match="does not answer"):
                soak.run(work, ignore)
            with pytest.raises(ShardUnavailable):
                retreat.validate(work)
            with pytest.raises(ForeshardError):
                finalise.run(work, ignore)
            finalise.end_way_back(work, "Ada", without_source=True)
            assert work.record.stage is Stage.FINALISE
            done = finalise.run(work, ignore)
            assert done["way_back_ended_by"] == "Ada"
            assert f"copy {BUCKETS[0]}" in done["left_to_the_janitor"]
            assert accepts(fleet.pair.target)
        work.store.go_to(work.lease, Stage.DONE)
    assert not accepts(fleet.pair.source)  # it comes back and knows that it owns nothing
    clean(fleet.control)
    assert fleet.leftovers() == []
    assert fleet.schemas(fleet.pair.source) == []
    assert fleet.schemas(fleet.pair.target) == list(BUCKETS)
    assert accepts(fleet.pair.target)


def test_a_lost_way_back_refuses_reversal_and_finalises_by_a_persons_word(fleet: MovingFleet) -> None:
    fleet.run_until(Stage.SOAK)
    with work_on(fleet) as work:
        with fleet.pair.target.connect() as admin:
            removal.patiently(partial(replication_slots.drop, admin, work.names.reverse))
        for step in (soak.run, lambda work, _: retreat.validate(work)):
            with pytest.raises(StreamBroken, match="no way back any more") as broken:
                step(work, ignore)
            assert "foreshard finalise" in (broken.value.remedy or "")
        assert work.record.stage is Stage.SOAK
        with pytest.raises(ForeshardError, match="source answers"):
            finalise.end_way_back(work, "Ada", without_source=True)
        finalise.end_way_back(work, "Ada", without_source=False)
        assert finalise.run(work, ignore)["leftovers"] == 0
    assert fleet.leftovers() == []
    assert fleet.schemas(fleet.pair.source) == []


def test_no_word_ends_a_migration_before_its_cutover(copied_fleet: MovingFleet) -> None:
    with work_on(copied_fleet) as work, pytest.raises(IllegalTransition, match="soak or finalise"):
        finalise.end_way_back(work, "Ada", without_source=True)


def test_after_the_cutover_nobody_needs_the_forward_stream(fleet: MovingFleet) -> None:
    fleet.run_until(Stage.SOAK)
    with fleet.runner() as runner, runner.work.connection(guard.Side.TARGET) as target:
        subscriptions.unsubscribe(target, runner.work.names.forward)
    fleet.run_until(None)
    assert fleet.store.get(fleet.migration).stage is Stage.DONE
    assert fleet.leftovers() == []


def test_the_command_line_aborts_without_the_target(
    fleet: MovingFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.run_until(Stage.VERIFY)
    monkeypatch.setenv("FORESHARD_CONTROL__DSN", fleet.control.conninfo)
    monkeypatch.setenv("FORESHARD_STATE_DIR", str(fleet.state_dir))
    with dead(fleet.pair.target):
        with fleet.runner():
            driven = CliRunner().invoke(app, ["abort", str(fleet.migration), "--as", "Ada", "--no-wait"])
            assert driven.exit_code == 0
            assert "at its next safe point" in driven.stdout
        said = CliRunner().invoke(app, ["abort", str(fleet.migration), "--as", "Ada", "--json"])
    assert said.exit_code == 0, said.output
    document = json.loads(said.stdout)
    assert document["stage"] == "aborted"
    assert "left to the janitor" in document["note"]
    clean(fleet.control)
    assert fleet.leftovers() == []


def test_a_refused_reversal_leaves_the_way_on_open(
    fleet: MovingFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once in reversing nothing else is allowed: a reversal that would lose writes must not get there."""
    fleet.run_until(Stage.SOAK)
    with fleet.runner() as runner:
        names = runner.work.names
        with fleet.pair.target.connect() as admin:
            removal.patiently(partial(replication_slots.drop, admin, names.reverse))
        with pytest.raises(StreamBroken, match="no way back any more"):
            runner.reverse(ignore)
        assert runner.record.stage is Stage.SOAK
    monkeypatch.setenv("FORESHARD_CONTROL__DSN", fleet.control.conninfo)
    monkeypatch.setenv("FORESHARD_STATE_DIR", str(fleet.state_dir))
    said = CliRunner().invoke(app, ["finalise", str(fleet.migration), "--without-way-back", "--as", "Ada"])
    assert said.exit_code == 0, said.output
    assert fleet.store.get(fleet.migration).stage is Stage.DONE
    assert fleet.leftovers() == []
