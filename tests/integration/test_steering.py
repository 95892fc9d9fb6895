"""A person holds, resumes and takes back a migration that is being driven, under writers: nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from foreshard.control.request_store import RequestStore
from foreshard.control.stream_store import StreamStore
from foreshard.errors import IllegalTransition, Interrupted
from foreshard.migration import head_start, unattended
from foreshard.migration.failpoint import VARIABLE
from foreshard.migration.lifecycle import Stage
from foreshard.migration.requests import Ask, Outcome, Way
from tests.integration.moving_fleet import MovingFleet, allow, assert_whole, ignore, wait_until, writers
from tests.integration.steered_runner import drive, driving

ROOT = Path(__file__).parents[2]
PAUSE_WITHIN_S = 3.0
"""A look at the requests each half second, a report of the stage, and the end of what is under way."""


def ask(fleet: MovingFleet, kind: Ask) -> int:
    return RequestStore(fleet.control).ask(fleet.migration, kind, "Ada", "a test", Way.SHELL)[0].id


def outcomes(fleet: MovingFleet) -> list[tuple[Ask, Outcome | None]]:
    return [(one.kind, one.outcome) for one in RequestStore(fleet.control).of(fleet.migration)]


def stage(fleet: MovingFleet) -> Stage:
    return fleet.store.get(fleet.migration).stage


@pytest.mark.parametrize("method", ["pipe", pytest.param("subscription", marks=pytest.mark.slow)])
def test_a_pause_in_the_backfill_holds_and_the_copy_goes_on_where_it_stood(
    fleet: MovingFleet, method: str
) -> None:
    fleet.configure(backfill=method, backfill_max_bytes_per_s=15_000)
    with writers(fleet, pause_s=0.01) as writing:
        with driving(fleet) as driver:
            wait_until(
                lambda: any(s is Stage.BACKFILL and p.done for s, p in driver.reports), "rows copied", 60
            )
            began = time.monotonic()
            ask(fleet, Ask.PAUSE)
            driver.join()
            effective_s = time.monotonic() - began
        assert effective_s < PAUSE_WITHIN_S
        print(f"paused {method} after {effective_s:.2f} s")
        record = fleet.store.get(fleet.migration)
        assert (record.stage, record.waiting_for, record.failure) == (Stage.BACKFILL, "resume", None)
        assert [run.outcome for run in fleet.store.stage_runs(fleet.migration)][-1] == "interrupted"
        assert fleet.store.abandoned() == []
        held = RequestStore(fleet.control).open(fleet.migration)
        assert held is not None
        assert held.held_at is not None
        writing.wait_for_more(20)

        # Whoever comes without a resume does not get past it.
        with fleet.runner() as runner:
            step = runner.next_step()
            assert step is not None
            with pytest.raises(Interrupted):
                runner.perform(step, ignore)
            runner.honour(held, ignore)
        assert stage(fleet) is Stage.BACKFILL

        ask(fleet, Ask.RESUME)
        fleet.configure(backfill_max_bytes_per_s=None)
        with driving(fleet) as driver:
            driver.join()
        writing.wait_for_more(20)
        writing.stop()
        assert_whole(fleet.checked(writing.ledger, fleet.pair.target), redirected=True)
    assert stage(fleet) is Stage.DONE
    assert fleet.leftovers() == []
    assert outcomes(fleet) == [(Ask.PAUSE, Outcome.RESUMED), (Ask.RESUME, Outcome.DONE)]


@pytest.mark.slow
def test_a_pause_holds_within_seconds_in_every_stage_that_waits(fleet: MovingFleet) -> None:
    waits = {
        Stage.READ_SHADOW: (
            {"shadow_min_reads": 10**9, "shadow_timeout_s": 120.0},
            {"shadow_timeout_s": 0.0},
        ),
        Stage.WRITE_REDIRECT: ({"canary_soak_s": 120.0}, {"canary_soak_s": 0.0}),
        Stage.SOAK: ({"soak_s": 120.0}, {"soak_s": 0.0}),
    }
    for held, (long, short) in waits.items():
        fleet.configure(**long)
        with driving(fleet) as driver:
            wait_until(lambda held=held: any(s is held for s, _ in driver.reports), held, 60)  # type: ignore[misc]
            began = time.monotonic()
            ask(fleet, Ask.PAUSE)
            driver.join()
        effective_s = time.monotonic() - began
        assert stage(fleet) is held
        assert effective_s < PAUSE_WITHIN_S
        print(f"paused {held} after {effective_s:.2f} s")
        ask(fleet, Ask.RESUME)
        fleet.configure(**short)
    fleet.run_until(None)
    assert stage(fleet) is Stage.DONE
    assert {run.outcome for run in fleet.store.stage_runs(fleet.migration)} == {"finished", "interrupted"}
    assert fleet.leftovers() == []


def test_abort_while_the_backfill_runs_leaves_nothing(fleet: MovingFleet) -> None:
    fleet.configure(backfill_max_bytes_per_s=15_000)
    with writers(fleet, pause_s=0.01) as writing:
        with driving(fleet) as driver:
            wait_until(
                lambda: any(s is Stage.BACKFILL and p.done for s, p in driver.reports), "rows copied", 60
            )
            ask(fleet, Ask.ABORT)
            driver.join()
        writing.wait_for_more(20)
        writing.stop()
        assert_whole(fleet.checked(writing.ledger, fleet.pair.source), redirected=False)
    assert stage(fleet) is Stage.ABORTED
    assert fleet.leftovers() == []
    assert fleet.schemas(fleet.pair.target) == []
    assert outcomes(fleet) == [(Ask.ABORT, Outcome.DONE)]


@pytest.mark.slow
def test_paused_and_then_reversed_while_it_soaks_loses_nothing(fleet: MovingFleet) -> None:
    fleet.configure(soak_s=120.0)
    with writers(fleet) as writing:
        with driving(fleet) as driver:
            wait_until(lambda: stage(fleet) is Stage.SOAK, "the soak", 60)
            wait_until(lambda: StreamStore(fleet.control).of(fleet.migration) is not None, "a reading")
            ask(fleet, Ask.PAUSE)
            driver.join()
        assert fleet.store.get(fleet.migration).waiting_for == "resume"
        with pytest.raises(IllegalTransition, match="too late to abort"):
            ask(fleet, Ask.ABORT)
        writing.wait_for_more(20)
        ask(fleet, Ask.REVERSE)
        with driving(fleet) as driver:
            driver.join()
        writing.wait_for_more(20)
        writing.stop()
        assert_whole(fleet.checked(writing.ledger, fleet.pair.source), redirected=True)
    assert stage(fleet) is Stage.REVERSED
    assert fleet.leftovers() == []
    assert fleet.schemas(fleet.pair.target) == []
    assert outcomes(fleet) == [(Ask.PAUSE, Outcome.REPLACED), (Ask.REVERSE, Outcome.DONE)]


def test_reverse_of_a_migration_that_soaks_under_load_loses_nothing(fleet: MovingFleet) -> None:
    fleet.configure(soak_s=120.0)
    with writers(fleet) as writing:
        with driving(fleet) as driver:
            wait_until(lambda: any(s is Stage.SOAK for s, _ in driver.reports), "the soak", 60)
            ask(fleet, Ask.REVERSE)
            driver.join()
        writing.wait_for_more(20)
        writing.stop()
        assert_whole(fleet.checked(writing.ledger, fleet.pair.source), redirected=True)
    assert stage(fleet) is Stage.REVERSED
    assert fleet.leftovers() == []


def test_what_is_asked_at_the_soaks_last_moment_is_not_passed_by(fleet: MovingFleet) -> None:
    """Finalise knows no way back: the change of stage itself looks."""
    fleet.run_until(Stage.SOAK)
    fleet.configure(soak_s=0.0)  # nothing is reported
    with fleet.runner() as runner:
        step = runner.next_step()
        assert step is not None
        ask(fleet, Ask.REVERSE)
        with pytest.raises(Interrupted):
            runner._perform(step, ignore)  # as if it had been asked after `perform` looked
        assert stage(fleet) is Stage.SOAK
        drive(runner)
    assert stage(fleet) is Stage.REVERSED


@pytest.mark.slow
def test_an_abort_that_the_cutover_overtakes_is_carried_out_as_a_reversal(fleet: MovingFleet) -> None:
    fleet.run_until(Stage.CUTOVER)
    number = ask(fleet, Ask.ABORT)
    with fleet.runner() as runner:
        step = runner.next_step()
        assert step is not None
        allow(runner, step)
        runner._perform(step, ignore)
        assert runner.record.stage is Stage.SOAK
        drive(runner)
    assert stage(fleet) is Stage.REVERSED
    assert RequestStore(fleet.control).get(number).outcome is Outcome.DONE
    assert fleet.leftovers() == []


@pytest.mark.slow
def test_a_killed_driver_leaves_the_request_to_the_next_one(fleet: MovingFleet) -> None:
    with writers(fleet) as writing:
        killed = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.killed_runner", fleet.control.conninfo, str(fleet.state_dir),
             str(fleet.migration)],
            cwd=ROOT, env={**os.environ, VARIABLE: "backfill"},
        )  # fmt: skip
        try:
            wait_until(lambda: stage(fleet) is Stage.PREPARE, "the driver", 60)
        finally:
            killed.wait(60)
        assert killed.returncode < 0
        number = ask(fleet, Ask.ABORT)
        wait_until(lambda: len(fleet.store.abandoned()) == 1, "the dead driver's lease expires")
        with driving(fleet) as driver:
            driver.join()
        writing.stop()
        assert_whole(fleet.checked(writing.ledger, fleet.pair.source), redirected=False)
    assert stage(fleet) is Stage.ABORTED
    assert RequestStore(fleet.control).get(number).outcome is Outcome.DONE
    assert fleet.leftovers() == []


@pytest.mark.slow
def test_sequences_of_a_paused_canary_are_kept_apart_by_the_janitor(fleet: MovingFleet) -> None:
    """The distance between both sides lasts for an approval; a pause may last for weeks."""
    fleet.run_until(Stage.CUTOVER)
    ask(fleet, Ask.PAUSE)
    assert unattended.keep_apart(fleet.control, fleet.settings) == []
    before = fleet.store.get(fleet.migration).facts[head_start.FACT]
    name, start = next(iter(before.items()))
    with fleet.pair.source.connect() as conn:
        conn.execute("SELECT setval(%s, %s)", (name, start["target"] - start["margin"] // 3))
    assert unattended.keep_apart(fleet.control, fleet.settings) == [fleet.migration]
    after = fleet.store.get(fleet.migration)
    assert after.facts[head_start.FACT][name]["target"] > start["target"]
    assert after.waiting_for == "resume"
    assert unattended.keep_apart(fleet.control, fleet.settings) == []


@pytest.mark.slow
def test_a_paused_migration_without_room_is_given_back_by_the_janitor(fleet: MovingFleet) -> None:
    fleet.run_until(Stage.READ_SHADOW)
    ask(fleet, Ask.PAUSE)
    assert unattended.watch_room(fleet.control, fleet.settings) == []
    seen = StreamStore(fleet.control).of(fleet.migration)
    assert seen is not None
    assert seen[1].source_wal_bytes is not None
    fleet.configure(wal_budget_bytes=1)
    assert unattended.watch_room(fleet.control, fleet.settings) == [fleet.migration]
    asked = RequestStore(fleet.control).open(fleet.migration)
    assert asked is not None
    assert (asked.kind, asked.way) == (Ask.ABORT, Way.JANITOR)
    assert "headroom" in asked.comment
    with driving(fleet) as driver:
        driver.join()
    assert stage(fleet) is Stage.ABORTED
    assert fleet.leftovers() == []
    assert outcomes(fleet) == [(Ask.PAUSE, Outcome.REPLACED), (Ask.ABORT, Outcome.DONE)]
