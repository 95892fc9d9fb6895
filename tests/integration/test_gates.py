"""No way to a copy, to the keys or to the end of the way back leads past the checks, not by the library either."""

from __future__ import annotations

from typing import Any

import pytest

from foreshard.control.flip_store import FlipStore
from foreshard.errors import FlipFailed, GateRefused
from foreshard.migration.flip import flip
from foreshard.migration.lifecycle import Stage
from foreshard.migration.runner import Runner
from foreshard.migration.stages import prepare
from foreshard.pgbouncer import handover
from foreshard.topology.keys import SLOTS
from tests.integration.moving_fleet import MovingFleet, allow, ignore


def go(runner: Runner, checkpoint: str, flip_no: int, **changed: Any) -> None:
    """Store a verdict that says go."""
    said = {"passed": True, "evaluated": 1, "expected": 1, "failed": 0, "ttl_s": 60, **changed}
    runner.work.flips.record_gate(
        runner.work.lease, checkpoint, flip_no, evidence_sha256="0" * 64, verdict={}, **said
    )


def test_nothing_is_copied_without_the_checks_before_the_copy(
    fleet: MovingFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fleet.runner() as runner:
        fleet.run_until(Stage.PREPARE, runner)
        step = runner.next_step()
        assert step is not None
        assert step.flip_no == 1

        def refused() -> None:
            with pytest.raises(GateRefused, match="before_copy"):
                runner.perform(step, ignore)
            with pytest.raises(GateRefused, match="before_copy"):
                prepare.run(runner.work, ignore)

        refused()
        go(runner, "before_cutover", 1)  # other checks
        go(runner, "before_copy", 2)  # of another flip
        refused()
        go(runner, "before_copy", 1, passed=False, failed=1)
        refused()
        go(runner, "before_copy", 1, age_s=61)
        refused()
        assert fleet.schemas(fleet.pair.target) == []
        assert fleet.store.resources(fleet.migration) == []

        def dies(*_: object) -> None:
            raise RuntimeError("in the middle of it")

        go(runner, "before_copy", 1, ttl_s=3600)
        with monkeypatch.context() as broken:
            broken.setattr(prepare.arming, "arm_for_copy", dies)
            with pytest.raises(RuntimeError):
                runner.perform(step, ignore)
        assert fleet.schemas(fleet.pair.target) != []
        # The target is not empty any more, so the checks could not pass again.
        go(runner, "before_copy", 1, passed=False, failed=1)
        runner.perform(step, ignore)
        assert runner.record.stage is Stage.BACKFILL


def test_no_way_to_the_keys_leads_past_the_checks(fleet: MovingFleet) -> None:
    """Whoever asks, under whatever policy: the cutover wants checks of its own, and so does each guarded step."""
    fleet.configure_approval(before="never")
    fleet.run_until(Stage.CUTOVER)
    with fleet.runner() as runner:
        work = runner.work
        step = runner.next_step()
        assert step is not None
        assert (step.checkpoint, step.approval) == ("before_cutover", False)
        present = work.record.bound

        def refused(why: str, bound: int = SLOTS) -> None:
            ways = [lambda: flip(work, bound)]
            if bound == SLOTS:
                ways += [lambda: runner.perform(step, ignore), lambda: handover.flip_paused(work, bound)]
            for way in ways:
                with pytest.raises(GateRefused, match=why):
                    way()
            assert work.bounds().target == present

        refused("were not run")
        go(runner, "before_cutover", step.flip_no - 1)
        go(runner, "before_cutover", step.flip_no + 9)
        go(runner, "after_cutover", step.flip_no)
        refused("were not run")
        another = fleet.store.open(fleet.plan(fleet.pair.source.name, fleet.pair.target.name, ["b0009"]))
        with Runner(fleet.control, fleet.settings, another, "another") as other:
            go(other, "before_cutover", step.flip_no)
        refused("were not run")
        go(runner, "before_cutover", step.flip_no, evaluated=0, expected=0)
        refused("did not pass")
        # An hour of judging does not make it fresh: it lasts from when the evidence was complete.
        go(runner, "before_cutover", step.flip_no, age_s=3600)
        refused("are too old")
        go(runner, "before_cutover", step.flip_no)

        def no_moment_is_good() -> None:
            raise FlipFailed("not now")

        # Cancelled: the next attempt is another flip.
        with pytest.raises(FlipFailed, match="not now"):
            flip(work, SLOTS, before_close=no_moment_is_good)
        refused("were not run")
        go(runner, "before_cutover", work.flips.next_number(fleet.migration))
        done = flip(work, SLOTS)
        assert done is not None
        assert flip(work, SLOTS) is None  # nothing to allow: they are the target's
        # Keys may go back at any time; to come again they need new checks.
        assert flip(work, present) is not None
        refused("were not run")

    fleet.configure_approval(before="every_flip")
    with fleet.runner() as runner:
        work = runner.work
        refused("were not run", present + 1)
        assert flip(work, present - 1) is not None
        present -= 1
        refused("were not run", present + 1)


def test_the_source_is_not_dropped_without_the_checks_after_the_cutover(fleet: MovingFleet) -> None:
    fleet.run_until(Stage.FINALISE)
    with fleet.runner() as runner:
        step = runner.next_step()
        assert step is not None
        assert step.checkpoint == "after_cutover"
        for prepared in (
            {},
            {"flip_no": step.flip_no - 1},
            {"flip_no": step.flip_no, "passed": False, "failed": 1},
            {"flip_no": step.flip_no, "age_s": 61},
        ):
            if prepared:
                go(runner, "after_cutover", **prepared)
            with pytest.raises(GateRefused, match="after_cutover"):
                runner.perform(step, ignore)
        assert fleet.schemas(fleet.pair.source) != []
        allow(runner, step)
        runner.perform(step, ignore)
    assert FlipStore(fleet.control).gates(fleet.migration)[-1].passed
    assert fleet.store.get(fleet.migration).stage is Stage.DONE
