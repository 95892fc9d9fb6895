"""Nothing but a person's answer to the present attempt opens a flip: the traps of suspended runs."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Crashed, Scheduled

from data_checks.migration_gate import Gate, GateReport
from data_checks.scope import Checkpoint, Scope
from data_checks.verdict import Verdict
from deployments.prefect_client import answer
from flows.migrate import migrate
from foreshard.control.engine import ControlDatabase
from foreshard.control.flip_store import FlipStore
from foreshard.control.migration_store import MigrationStore
from foreshard.errors import ApprovalRequired, ForeshardError
from foreshard.migration import runner as runners
from foreshard.migration.lifecycle import PATH, Stage
from foreshard.migration.runner import Runner, Step
from foreshard.migration.work import Work
from foreshard.topology.keys import SLOTS
from tasks import gates
from tests.flows.conftest import Deployed


@pytest.fixture
def deployed(client: SyncPrefectClient) -> Deployed:
    return Deployed(migrate, client)


@pytest.fixture
def migration(control: ControlDatabase, plan_id: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """A migration that stands before its cutover. Its stages touch no shard; lease, flips and approvals are real."""
    store = MigrationStore(control)
    number = store.open(plan_id)
    lease = store.acquire(number, "test", None, 60)
    for stage in PATH[1 : PATH.index(Stage.CUTOVER) + 1]:
        store.go_to(lease, stage)
    store.release(lease)

    def cut_over(work: Work, report: object) -> dict[str, Any]:
        del report
        if work.record.bound < SLOTS:
            work.flips.require_approval(number, work.flips.next_number(number))
        return {}

    stages = dict.fromkeys(runners._RUN, lambda *_: {}) | {Stage.CUTOVER: cut_over}
    monkeypatch.setattr(runners, "_RUN", stages)
    monkeypatch.setattr(runners, "finish_interrupted", lambda *_: None)
    monkeypatch.setattr(runners.fingerprint, "refuse_change", lambda *_: None)
    monkeypatch.setattr(runners.retreat, "validate", lambda *_: None)
    monkeypatch.setattr(gates, "check", record_go)
    return number


def record_go(runner: Runner, step: Step) -> Gate:
    """A verdict that says go, stored as the real gate stores it."""
    assert step.checkpoint is not None
    work = runner.work
    scope = Scope(
        work.lease.migration, step.flip_no, "m", Checkpoint(step.checkpoint), work.buckets, ("orders",), 1
    )
    number = work.flips.record_gate(
        work.lease, step.checkpoint, step.flip_no, passed=True, evaluated=1, expected=1, failed=0,
        evidence_sha256="", verdict={}, ttl_s=60,
    )  # fmt: skip
    report = GateReport(Verdict.no(scope, 1), scope, None, 1.0, timedelta(minutes=5), None)
    return Gate(number, report)


def stage_of(control: ControlDatabase, migration: int) -> Stage:
    return MigrationStore(control).get(migration).stage


def waiting(deployed: Deployed, migration: int) -> FlowRun:
    """A run that waits for a person."""
    run = deployed.carry_out(deployed.create(migration_id=migration))
    assert run.state is not None
    assert run.state.name == "Suspended"
    return run


def attempt_of(run: FlowRun) -> str | None:
    assert run.state is not None
    return run.state.state_details.pause_key


def test_a_run_suspends_and_goes_on_when_a_person_approves(
    deployed: Deployed, control: ControlDatabase, migration: int
) -> None:
    run = waiting(deployed, migration)
    assert MigrationStore(control).get(migration).waiting_for == "approval"
    answer(control, migration, approve=True, approver="Ada", comment="looks right")
    run = deployed.carry_out(run)
    assert run.state is not None
    assert run.state.is_completed()
    assert stage_of(control, migration) is Stage.DONE
    (approval,) = FlipStore(control).approvals(migration)
    assert (approval.state, approval.approver, approval.comment) == ("approved", "Ada", "looks right")


def test_a_rejection_undoes_and_cancels(deployed: Deployed, control: ControlDatabase, migration: int) -> None:
    run = waiting(deployed, migration)
    answer(control, migration, approve=False, approver="Ada")
    run = deployed.carry_out(run)
    assert run.state is not None
    assert run.state.is_cancelled()
    assert stage_of(control, migration) is Stage.ABORTED


def test_a_crashed_wait_that_is_retried_asks_again(
    deployed: Deployed, client: SyncPrefectClient, control: ControlDatabase, migration: int
) -> None:
    run = waiting(deployed, migration)
    first = attempt_of(run)
    client.set_flow_run_state(run.id, Crashed(), force=True)
    client.set_flow_run_state(run.id, Scheduled(), force=True)
    run = deployed.carry_out(run)
    assert run.state is not None
    assert run.state.name == "Suspended"
    assert attempt_of(run) != first
    assert stage_of(control, migration) is Stage.CUTOVER


def test_an_approval_of_an_earlier_attempt_does_not_count(
    deployed: Deployed, client: SyncPrefectClient, control: ControlDatabase, migration: int
) -> None:
    run = waiting(deployed, migration)
    first = attempt_of(run)
    client.set_flow_run_state(run.id, Scheduled(), force=True)
    run = deployed.carry_out(run)
    second = attempt_of(run)
    # Somebody sends the answer to the first attempt through the API and lets the run go on.
    stored = json.dumps({"decision": "approve", "approver": "Mallory", "comment": ""})
    client.create_flow_run_input(run.id, f"suspended-{first}-response", stored)
    client.set_flow_run_state(run.id, Scheduled(), force=True)
    run = deployed.carry_out(run)
    assert run.state is not None
    assert run.state.name == "Suspended"
    assert attempt_of(run) not in (first, second)
    assert stage_of(control, migration) is Stage.CUTOVER


def test_a_stored_approval_does_not_serve_a_second_time(
    deployed: Deployed, client: SyncPrefectClient, control: ControlDatabase, migration: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    run = waiting(deployed, migration)
    answer(control, migration, approve=True, approver="Ada")

    def die(*_: object) -> Gate:
        raise KeyboardInterrupt  # the process ends between the stored approval and the flip

    with monkeypatch.context() as patched:
        patched.setattr(gates, "check", die)
        with pytest.raises(KeyboardInterrupt):
            deployed.carry_out(run)
    client.set_flow_run_state(run.id, Scheduled(), force=True)
    run = deployed.carry_out(run)
    assert run.state is not None
    assert run.state.name == "Suspended"
    assert stage_of(control, migration) is Stage.CUTOVER


def test_a_cutover_that_already_happened_is_not_asked_about(
    deployed: Deployed, control: ControlDatabase, migration: int
) -> None:
    """A runner died after the flip and before it could note that the stage is done."""
    store = MigrationStore(control)
    lease = store.acquire(migration, "a runner that died", None, 60)
    store.set_routing(lease, bound=SLOTS)
    store.release(lease)
    deployed.carry_out(deployed.create(migration_id=migration))
    assert FlipStore(control).approvals(migration) == []
    assert stage_of(control, migration) is Stage.DONE


def test_a_second_run_refers_to_the_one_that_waits(
    deployed: Deployed, control: ControlDatabase, plan_id: int, migration: int
) -> None:
    first = waiting(deployed, migration)
    second = deployed.carry_out(deployed.create(plan_id=plan_id))
    assert second.state is not None
    assert second.state.type is StateType.CANCELLED
    assert str(first.id) in (second.state.message or "")
    answer(control, migration, approve=True, approver="Ada")
    first = deployed.carry_out(first)
    assert first.state is not None
    assert first.state.is_completed()


def test_an_answer_without_a_name_is_refused(
    deployed: Deployed, control: ControlDatabase, migration: int
) -> None:
    waiting(deployed, migration)
    with pytest.raises(ForeshardError, match="refused"):
        answer(control, migration, approve=True, approver=" ")


def test_answering_twice_is_an_error(deployed: Deployed, control: ControlDatabase, migration: int) -> None:
    waiting(deployed, migration)
    answer(control, migration, approve=True, approver="Ada")
    with pytest.raises(ApprovalRequired):
        answer(control, migration, approve=False, approver="Bob")
