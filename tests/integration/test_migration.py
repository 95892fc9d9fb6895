"""The whole migration on real servers, under writers: forwards, back before and after the cutover."""

from __future__ import annotations

from pathlib import Path

import pytest

from foreshard.control.approval_answers import Answer
from foreshard.control.topology_store import TopologyStore
from foreshard.errors import ApprovalRequired, GateRefused, IllegalTransition, LeaseLost
from foreshard.fleet.throwaway import ShardPair
from foreshard.migration.approval_settings import ApprovalSettings
from foreshard.migration.flip import flip
from foreshard.migration.lifecycle import Stage
from foreshard.topology.keys import SLOTS
from tests.integration.moving_fleet import (
    ASKED,
    BUCKETS,
    MovingFleet,
    allow,
    assert_whole,
    ignore,
    writers,
)


@pytest.mark.parametrize("method", ["pipe", "subscription"])
def test_a_whole_migration_under_writers_loses_and_doubles_nothing(fleet: MovingFleet, method: str) -> None:
    fleet.configure(backfill=method)
    with writers(fleet) as writing:
        writing.wait_for_more(50)
        fleet.run_until(None)
        writing.wait_for_more(50)
        writing.stop()
        assert_whole(fleet.checked(writing.ledger, fleet.pair.target), redirected=True)

    assert fleet.store.get(fleet.migration).stage is Stage.DONE
    assert fleet.leftovers() == []
    assert fleet.schemas(fleet.pair.source) == []
    assert TopologyStore(fleet.control).placement().buckets_on(fleet.pair.target.name) == BUCKETS
    confirmation = fleet.store.confirmation(fleet.migration)
    assert confirmation is not None
    assert [(f["from"], f["to"], f["state"]) for f in confirmation["flips"]] == [
        (0, 102, "opened"),
        (102, 512, "opened"),
        (512, SLOTS, "opened"),
    ]
    assert all(resource.removed_at is not None for resource in fleet.store.resources(fleet.migration))


def test_reverse_after_the_cutover_keeps_every_write(fleet: MovingFleet) -> None:
    with writers(fleet) as writing:
        fleet.run_until(Stage.SOAK)
        writing.wait_for_more(50)
        with fleet.runner() as runner:
            with pytest.raises(IllegalTransition):
                runner.abort(ignore)
            runner.reverse(ignore)
        writing.wait_for_more(50)
        writing.stop()
        assert_whole(fleet.checked(writing.ledger, fleet.pair.source), redirected=True)

    assert fleet.store.get(fleet.migration).stage is Stage.REVERSED
    assert fleet.leftovers() == []
    assert fleet.schemas(fleet.pair.target) == []


def test_abort_in_the_middle_of_a_canary_keeps_every_write(fleet: MovingFleet) -> None:
    with writers(fleet) as writing:
        fleet.run_until(Stage.CUTOVER)
        with fleet.runner() as runner:
            runner.abort(ignore)
        writing.stop()
        assert_whole(fleet.checked(writing.ledger, fleet.pair.source), redirected=True)

    assert fleet.store.get(fleet.migration).stage is Stage.ABORTED
    assert fleet.leftovers() == []
    assert fleet.schemas(fleet.pair.target) == []


def test_the_cutover_is_refused_without_gate_or_approval(fleet: MovingFleet) -> None:
    fleet.run_until(Stage.CUTOVER)
    with fleet.runner() as runner:
        step = runner.next_step()
        assert step is not None
        with pytest.raises(GateRefused):
            runner.perform(step, ignore)
        with pytest.raises(GateRefused):
            flip(runner.work, SLOTS)
        fleet.flips.record_gate(
            runner.work.lease, "before_cutover", step.flip_no, passed=True, evaluated=2, expected=2, failed=0,
            evidence_sha256="0" * 64, verdict={}, ttl_s=60,
        )  # fmt: skip
        with pytest.raises(ApprovalRequired):
            runner.perform(step, ignore)
        approvals = runner.work.approvals
        attempt = approvals.ask(runner.work.lease, step.flip_no, None, ASKED, 60)
        approvals.decide(attempt.id, Answer(False, "a person"))
        with pytest.raises(ApprovalRequired):
            flip(runner.work, SLOTS)
        assert runner.work.bounds().target == 512


def test_by_policy_every_flip_needs_its_own_gate_and_approval(
    shard_pair: ShardPair, control_dsn: str, tmp_path: Path
) -> None:
    fleet = MovingFleet(shard_pair, control_dsn, tmp_path, approval=ApprovalSettings(before="every_flip"))
    with fleet.runner() as runner:
        fleet.run_until(Stage.WRITE_REDIRECT, runner)
        for _ in range(3):
            step = runner.next_step()
            assert step is not None
            assert (step.checkpoint, step.approval) == ("before_cutover", True)
            with pytest.raises(GateRefused):  # what was allowed for the flip before does not count
                runner.perform(step, ignore)
            allow(runner, step)
            runner.perform(step, ignore)
        fleet.run_until(None, runner)
    assert fleet.store.get(fleet.migration).stage is Stage.DONE
    fleet.close()


def test_a_second_runner_is_turned_away_and_a_late_one_writes_nothing(fleet: MovingFleet) -> None:
    with fleet.runner("first") as first:
        with pytest.raises(LeaseLost), fleet.runner("second"):
            pass
        with fleet.control.transaction() as session:  # as if the first had slept for long
            session.connection().exec_driver_sql("UPDATE migrations SET lease_expires_at = now()")
        with fleet.runner("second"), pytest.raises(LeaseLost):
            flip(first.work, 100)
