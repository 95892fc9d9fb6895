"""kill -9 of Prefect's server, of what serves the flows, or of both, at the moments that matter.

What was killed is started again by the same command, and the janitor has its turns. Nobody else does anything, but for
the approval, which is a person's.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from prefect.client.schemas.objects import FlowRun

from foreshard.migration.lifecycle import Stage
from tests.survival.installation import Installation, PoolInstallation
from tests.survival.kill import (
    MOMENTS,
    SLOW_BACKFILL,
    VICTIMS,
    application,
    assert_kept,
    finish,
    kill,
    start_again,
    strike,
    survive,
)


@pytest.mark.slow
def test_both_die_in_a_flip_and_while_a_person_is_asked(installed: Installation) -> None:
    survive(installed, "both", "flip_closed", "approval")


@pytest.mark.survival
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("victim", VICTIMS)
def test_one_dies_at_one_moment(installed: Installation, victim: str, moment: str) -> None:
    survive(installed, victim, moment)


@pytest.mark.survival
def test_a_worker_of_a_pool_dies(pool: PoolInstallation) -> None:
    survive(pool, "serving", "backfill", "approval")


@pytest.mark.survival
def test_only_the_serving_process_dies_and_its_run_ends(installed: Installation) -> None:
    """Nobody reads what the run says any more: it ends at its next line, gives its lease back, and Prefect knows."""
    installed.configure(backfill_max_bytes_per_s=SLOW_BACKFILL)
    with application(installed) as writing:
        installed.start_serving()
        run = installed.start("migrate", migration_id=installed.fleet.migration)
        installed.until(lambda: MOMENTS["backfill"](installed), "backfill", 180)
        installed.kill_only_serving()
        installed.until(lambda: installed.state_of(run).is_crashed(), "the orphan's end", 60)
        installed.until(lambda: not installed.is_driven(), "its lease to be free", 20)
        assert installed.record.failure is None
        start_again(installed, "serving")
        installed.janitor()
        installed.until(lambda: installed.record.attempts == 2, "a new run")
        finish(installed)
        assert_kept(installed, writing)


@pytest.mark.survival
def test_an_answer_that_a_dead_run_took_does_not_count_again(installed: Installation) -> None:
    """The run dies between the stored answer and the flip: a person is asked once more, under a new number."""
    installed.configure()
    approvals, number = installed.approvals, installed.fleet.migration
    with application(installed) as writing:
        installed.start_serving()
        installed.start("migrate", migration_id=number)
        installed.answer()
        installed.until(
            lambda: [one.state for one in approvals.of(number)] == ["approved"], "the stored answer", 120
        )
        kill(installed, "both")  # its checks are run again now, which takes seconds
        bound = installed.record.bound
        start_again(installed, "both")
        installed.until(lambda: len(installed.store.abandoned()) == 1, "the dead runner's lease expires")
        installed.janitor()
        installed.until(lambda: MOMENTS["approval"](installed), "a new question", 180)
        assert (installed.record.stage, installed.record.bound) == (Stage.CUTOVER, bound)
        finish(installed)
        assert_kept(installed, writing, approved=2)


@pytest.mark.survival
def test_the_server_is_away_for_long(installed: Installation) -> None:
    """The serving process gives up and says so; its run ends, which is no failure, and another goes on."""
    installed.configure(backfill_max_bytes_per_s=SLOW_BACKFILL, approval="never")
    with application(installed) as writing:
        installed.start_serving()
        installed.start("migrate", migration_id=installed.fleet.migration)
        installed.until(lambda: MOMENTS["backfill"](installed), "backfill", 180)
        kill(installed, "server")
        installed.until(lambda: not installed.is_serving(), "the serving process to give up", 180)
        assert "does not answer any more" in installed.log()
        installed.until(lambda: not installed.is_driven(), "the lease to be free", 20)
        assert installed.record.failure is None
        writing.wait_for_more(20)
        start_again(installed, "server")
        finish(installed, answers=0)
        assert_kept(installed, writing, approved=0)


@pytest.mark.survival
def test_the_server_is_away_when_a_person_must_be_asked(installed: Installation) -> None:
    """The run cannot ask and ends; that is no failure of the migration, and it is asked when the server is back."""
    installed.configure(canary_soak_s=3.0)
    with application(installed) as writing:
        installed.start_serving()
        installed.start("migrate", migration_id=installed.fleet.migration)
        installed.until(lambda: MOMENTS["between_flips"](installed), "a flip", 180)
        kill(installed, "server")
        installed.until(
            lambda: installed.record.stage is Stage.CUTOVER and not installed.is_driven(),
            "the run's end",
            180,
        )
        assert installed.record.failure is None
        start_again(installed, "server")
        finish(installed)
        assert_kept(installed, writing)


@pytest.mark.survival
def test_by_its_schedule_alone(installed: Installation) -> None:
    """No turn of the janitor but its own: at most a minute, and the lease before that."""
    installed.configure(backfill_max_bytes_per_s=SLOW_BACKFILL)
    with application(installed) as writing:
        installed.start_serving()
        installed.start("migrate", migration_id=installed.fleet.migration)
        installed.until(lambda: MOMENTS["backfill"](installed), "backfill", 180)
        kill(installed, "both")
        start_again(installed, "both")
        installed.until(lambda: installed.record.attempts == 2, "the janitor, by its schedule", 150)
        strike(installed, writing, "serving", "approval")
        finish(installed)
        assert_kept(installed, writing)


@pytest.mark.survival
def test_cancelled_by_a_person_while_it_copies(installed: Installation) -> None:
    """It ends cleanly, is left to people, and goes on by its number."""
    installed.configure(backfill_max_bytes_per_s=SLOW_BACKFILL)
    with application(installed) as writing:
        installed.start_serving()
        run = installed.start("migrate", migration_id=installed.fleet.migration)
        installed.until(lambda: MOMENTS["backfill"](installed), "backfill", 180)
        installed.cancel(run)
        installed.until(lambda: installed.state_of(run).is_cancelled(), "the run's end", 60)
        assert not installed.is_driven(), "the lease was given back, it did not run out"
        installed.janitor()
        record = installed.record
        assert (record.stage, record.failure, record.attempts) == (Stage.BACKFILL, None, 1)
        installed.start("migrate", migration_id=record.id)
        finish(installed)
        assert_kept(installed, writing)


@pytest.mark.survival
def test_what_schedules_piled_up_is_dropped_and_what_was_asked_for_is_done(installed: Installation) -> None:
    """Nobody served for a while: sixty late runs of `collect` would start at once after an hour."""
    installed.configure()
    installed.start_serving()
    kill(installed, "serving")
    late = installed.until(
        lambda: [run for run in installed.runs("collect") if is_late(run)], "a late run", 150
    )
    asked = installed.start("migrate", migration_id=installed.fleet.migration)
    start_again(installed, "serving")
    assert not {run.id for run in late} & {run.id for run in installed.runs("collect")}
    installed.until(lambda: not installed.state_of(asked).is_scheduled(), "the run that was asked for", 60)


def is_late(run: FlowRun) -> bool:
    """A schedule made it, and nobody was there at its time."""
    assert run.state is not None
    due = run.expected_start_time
    return run.auto_scheduled and run.state.is_scheduled() and due is not None and due < datetime.now(UTC)
