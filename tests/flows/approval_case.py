"""A migration that stands before its cutover, for tests of the question there: its stages touch no shard."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun

from data_checks.migration_gate import Gate, GateReport
from data_checks.scope import Checkpoint, Scope
from data_checks.verdict import Finding, Verdict
from foreshard.control.approval_store import ApprovalRecord, ApprovalStore
from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_store import MigrationStore
from foreshard.migration import approval_policy
from foreshard.migration import runner as runners
from foreshard.migration.lifecycle import PATH, Stage
from foreshard.migration.runner import Runner, Step
from foreshard.migration.work import Work
from foreshard.topology.keys import SLOTS
from tasks import gates
from tests.flows.conftest import Deployed


def stand_before_cutover(control: ControlDatabase, plan_id: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """The migration's number. Lease, flips and approvals are real; the gate says go."""
    store = MigrationStore(control)
    number = store.open(plan_id)
    lease = store.acquire(number, "test", None, 60)
    for stage in PATH[1 : PATH.index(Stage.CUTOVER) + 1]:
        store.go_to(lease, stage)
    store.release(lease)

    def cut_over(work: Work, report: object) -> dict[str, Any]:
        """What `flip.authorise` asks of approvals."""
        del report
        if work.record.bound < SLOTS:
            flip_no = work.flips.next_number(work.lease.migration)
            asking = approval_policy.asking_for(work, cutover=True)
            if asking.wanted:
                work.approvals.require(work.lease.migration, flip_no)
            else:
                work.approvals.not_asked(work.lease, flip_no, asking)
        return {}

    stages = dict.fromkeys(runners._RUN, lambda *_: {}) | {Stage.CUTOVER: cut_over}
    monkeypatch.setattr(runners, "_RUN", stages)
    monkeypatch.setattr(runners, "finish_interrupted", lambda *_: None)
    monkeypatch.setattr(runners.fingerprint, "refuse_change", lambda *_: None)
    monkeypatch.setattr(runners.retreat, "validate", lambda *_: None)
    monkeypatch.setattr(gates, "check", record_go)
    return number


def record_go(runner: Runner, step: Step, warnings: Sequence[Finding] = (), passed: bool = True) -> Gate:
    """A verdict, stored and required as the real gate does."""
    assert step.checkpoint is not None
    work = runner.work
    scope = Scope(
        work.lease.migration, step.flip_no, "m", Checkpoint(step.checkpoint), work.buckets, ("orders",), 1
    )
    number = work.flips.record_gate(
        work.lease, step.checkpoint, step.flip_no, passed=passed, evaluated=1, expected=1, failed=not passed,
        evidence_sha256="e" * 64, verdict={"warnings": [{"table": w.table, "what": w.what} for w in warnings]},
        ttl_s=60,
    )  # fmt: skip
    work.flips.require_gate(work.lease.migration, step.checkpoint, step.flip_no)
    verdict = replace(Verdict.no(scope, 1), warnings=tuple(warnings))
    return Gate(number, GateReport(verdict, scope, None, 1.0, timedelta(minutes=5), None))


def stage_of(control: ControlDatabase, migration: int) -> Stage:
    return MigrationStore(control).get(migration).stage


def waiting(deployed: Deployed, migration: int) -> FlowRun:
    """A run that waits for a person."""
    return suspended(deployed.carry_out(deployed.create(migration_id=migration)))


def suspended(run: FlowRun) -> FlowRun:
    assert run.state is not None
    assert run.state.name == "Suspended", run.state
    return run


def key_of(run: FlowRun) -> str:
    assert run.state is not None
    assert run.state.state_details.pause_key is not None
    return run.state.state_details.pause_key


def attempt(control: ControlDatabase, migration: int) -> ApprovalRecord:
    """The newest."""
    found = ApprovalStore(control).newest(migration)
    assert found is not None
    return found


def trail(control: ControlDatabase, migration: int | None = None) -> list[str]:
    return [event.event for event in ApprovalStore(control).events(migration)]


def fill_in(client: SyncPrefectClient, run: FlowRun, **form: str) -> Any:
    """What the page sends when its form is submitted."""
    return client.resume_flow_run(run.id, run_input=form)


def forge(client: SyncPrefectClient, run: FlowRun, key: str, **form: str) -> None:
    """Puts an answer beside the form, as whoever reaches Prefect's API can."""
    client.create_flow_run_input(run.id, f"suspended-{key}-response", json.dumps(form))


def inputs(client: SyncPrefectClient, run: FlowRun) -> dict[str, str]:
    """All that Prefect keeps of a run's input."""
    return {one.key: one.value for one in client.filter_flow_run_input(run.id, "", 200, set())}


def let_expire(control: ControlDatabase) -> None:
    with control.transaction() as session:
        session.connection().exec_driver_sql(
            "UPDATE approvals SET expires_at = clock_timestamp() WHERE state = 'pending'"
        )
