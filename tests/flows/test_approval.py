"""Nothing but a person's answer to the present attempt opens a flip: the traps of suspended runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Crashed, Scheduled

from data_checks.migration_gate import Gate
from data_checks.verdict import Finding
from deployments.answering import answer
from foreshard.control.approval_store import ApprovalStore
from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_store import MigrationStore
from foreshard.errors import GateRefused
from foreshard.migration.lifecycle import Stage
from foreshard.settings import load_settings
from foreshard.topology.keys import SLOTS
from tasks import gates
from tests.flows.approval_case import (
    attempt,
    fill_in,
    forge,
    inputs,
    key_of,
    record_go,
    stage_of,
    suspended,
    trail,
    waiting,
)
from tests.flows.conftest import Deployed
from tests.plans import new_plan


def say(
    control: ControlDatabase,
    migration: int,
    *,
    approve: bool = True,
    approver: str = "Ada",
    comment: str = "",
) -> None:
    answer(control, load_settings(), migration, approve=approve, approver=approver, comment=comment)


def test_a_run_suspends_and_goes_on_when_a_person_approves(
    migrations: Deployed, control: ControlDatabase, before_cutover: int
) -> None:
    run = waiting(migrations, before_cutover)
    assert MigrationStore(control).get(before_cutover).waiting_for == "approval"
    say(control, before_cutover, comment="looks right")
    run = migrations.carry_out(run)
    assert run.state is not None
    assert run.state.is_completed()
    assert stage_of(control, before_cutover) is Stage.DONE
    (found,) = ApprovalStore(control).of(before_cutover)
    assert (found.state, found.approver, found.comment, found.way) == (
        "approved",
        "Ada",
        "looks right",
        "api",
    )
    assert found.flow_run_id == str(run.id)
    assert trail(control) == ["asked", "approved"]
    confirmation = MigrationStore(control).confirmation(before_cutover)
    assert confirmation is not None
    assert confirmation["approvals"][0]["evidence_sha256"] == "e" * 64


def test_the_form_that_is_filled_in_in_the_page_counts_as_well(
    migrations: Deployed, client: SyncPrefectClient, control: ControlDatabase, before_cutover: int
) -> None:
    run = waiting(migrations, before_cutover)
    fill_in(client, run, decision="approve", approver="Ada", comment="")
    migrations.carry_out(run)
    assert stage_of(control, before_cutover) is Stage.DONE
    assert ApprovalStore(control).events()[-1].way == "ui"
    assert [key for key in inputs(client, run) if key.endswith("-response")] == []


def test_a_rejection_undoes_and_cancels(
    migrations: Deployed, control: ControlDatabase, before_cutover: int
) -> None:
    run = waiting(migrations, before_cutover)
    say(control, before_cutover, approve=False)
    run = migrations.carry_out(run)
    assert run.state is not None
    assert run.state.is_cancelled()
    assert stage_of(control, before_cutover) is Stage.ABORTED


def test_a_rejection_outlives_the_run_that_read_it(
    migrations: Deployed, client: SyncPrefectClient, control: ControlDatabase, before_cutover: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    run = waiting(migrations, before_cutover)
    say(control, before_cutover, approve=False)

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("tasks.stages.give_back.with_options", die)
        with pytest.raises(KeyboardInterrupt):
            migrations.carry_out(run)
    migrations.carry_out(migrations.create(migration_id=before_cutover))
    assert stage_of(control, before_cutover) is Stage.ABORTED
    assert trail(control) == ["asked", "rejected"]
    assert client.read_flow_run(run.id).state is not None


@pytest.mark.parametrize("what_is_left", ["all", "no form", "an answer of defaults", "nothing"])
def test_a_crashed_wait_that_is_retried_asks_again(
    migrations: Deployed,
    client: SyncPrefectClient,
    control: ControlDatabase,
    before_cutover: int,
    what_is_left: str,
) -> None:
    """Prefect walks such a run through its `wait_for_input`, with a form of defaults if it has one."""
    run = waiting(migrations, before_cutover)
    first = key_of(run)
    if what_is_left in ("no form", "nothing"):
        for key in inputs(client, run):
            client.delete_flow_run_input(run.id, key)
    if what_is_left == "an answer of defaults":
        forge(client, run, first, comment="")
    client.set_flow_run_state(run.id, Crashed(), force=True)
    client.set_flow_run_state(run.id, Scheduled(), force=True)
    run = suspended(migrations.carry_out(run))
    assert key_of(run) != first
    assert stage_of(control, before_cutover) is Stage.CUTOVER
    assert attempt(control, before_cutover).state == "pending"
    say(control, before_cutover)
    migrations.carry_out(run)
    assert stage_of(control, before_cutover) is Stage.DONE


def replayed(client: SyncPrefectClient, run: FlowRun, key: str) -> None:
    forge(client, run, key, decision="approve", approver="Mallory", comment="")
    client.set_flow_run_state(run.id, Scheduled(), force=True)


def test_an_approval_of_an_earlier_attempt_does_not_count(
    migrations: Deployed, client: SyncPrefectClient, control: ControlDatabase, before_cutover: int
) -> None:
    run = waiting(migrations, before_cutover)
    first = key_of(run)
    client.set_flow_run_state(run.id, Scheduled(), force=True)
    run = suspended(migrations.carry_out(run))
    second = key_of(run)
    replayed(client, run, first)
    run = suspended(migrations.carry_out(run))
    assert key_of(run) not in (first, second)
    assert stage_of(control, before_cutover) is Stage.CUTOVER
    assert trail(control) == ["asked", "superseded", "asked", "refused", "superseded", "asked"]
    assert "Mallory" not in str(inputs(client, run))


def test_an_approval_given_to_another_run_does_not_count(
    migrations: Deployed, client: SyncPrefectClient, control: ControlDatabase, before_cutover: int
) -> None:
    first = waiting(migrations, before_cutover)
    client.set_flow_run_state(first.id, Crashed(), force=True)
    second = migrations.create(migration_id=before_cutover)
    forge(client, second, key_of(first), decision="approve", approver="Mallory", comment="")
    second = suspended(migrations.carry_out(second))
    assert trail(control) == ["asked", "refused", "superseded", "asked"]
    assert stage_of(control, before_cutover) is Stage.CUTOVER


def test_an_approval_of_another_migration_does_not_count(
    migrations: Deployed, client: SyncPrefectClient, control: ControlDatabase, before_cutover: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Its answer, and the voucher in it, are sent to this one's run."""
    from tests.flows.approval_case import stand_before_cutover

    other = stand_before_cutover(control, new_plan(control, "shard-1", "shard-2", ["b0002"]), monkeypatch)
    theirs, ours = waiting(migrations, other), waiting(migrations, before_cutover)
    say(control, other)
    (sent,) = (value for key, value in inputs(client, theirs).items() if key.endswith("-response"))
    client.create_flow_run_input(ours.id, f"suspended-{key_of(ours)}-response", sent)
    client.create_flow_run_input(ours.id, f"suspended-{key_of(theirs)}-response", sent)
    client.set_flow_run_state(ours.id, Scheduled(), force=True)
    suspended(migrations.carry_out(ours))
    assert stage_of(control, before_cutover) is Stage.CUTOVER
    assert attempt(control, before_cutover).state == "pending"
    refused = [event.why for event in ApprovalStore(control).events() if event.event == "refused"]
    assert f"its voucher is for attempt {attempt(control, other).id}." in refused
    migrations.carry_out(theirs)  # it serves where it belongs
    assert stage_of(control, other) is Stage.DONE


def test_a_stored_approval_does_not_serve_a_second_time(
    migrations: Deployed, client: SyncPrefectClient, control: ControlDatabase, before_cutover: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    run = waiting(migrations, before_cutover)
    say(control, before_cutover)

    def die(*_: object) -> Gate:
        raise KeyboardInterrupt  # the process ends between the stored approval and the flip

    with monkeypatch.context() as patched:
        patched.setattr(gates, "check", die)
        with pytest.raises(KeyboardInterrupt):
            migrations.carry_out(run)
    client.set_flow_run_state(run.id, Scheduled(), force=True)
    suspended(migrations.carry_out(run))
    assert stage_of(control, before_cutover) is Stage.CUTOVER
    assert trail(control) == ["asked", "approved", "asked"]


NEW = Finding("expect_rows", "orders", "every order has a customer: 3 of 100")
KNOWN = Finding("expect_rows", "orders", "nobody is late: 5 ms")
KNOWN_NOW = Finding("expect_rows", "orders", "nobody is late: 9 ms")


def warns(*findings: Finding) -> Callable[..., Gate]:
    return partial(record_go, warnings=findings)


def test_a_gate_that_no_longer_passes_stops_what_was_approved(
    migrations: Deployed, control: ControlDatabase, before_cutover: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = waiting(migrations, before_cutover)
    say(control, before_cutover)
    with monkeypatch.context() as patched:
        patched.setattr(gates, "check", partial(record_go, passed=False))
        run = migrations.carry_out(run)
    assert run.state is not None
    assert run.state.is_failed()
    assert GateRefused.__name__ in str(MigrationStore(control).get(before_cutover).failure)
    assert stage_of(control, before_cutover) is Stage.CUTOVER
    # Mended, it is asked about again: the person approved what was then.
    suspended(migrations.carry_out(migrations.create(migration_id=before_cutover)))


def test_an_approval_covers_the_warnings_that_were_shown_and_no_others(
    migrations: Deployed, control: ControlDatabase, before_cutover: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates, "check", warns(KNOWN))
    run = waiting(migrations, before_cutover)
    say(control, before_cutover)
    monkeypatch.setattr(gates, "check", warns(KNOWN_NOW, NEW))
    run = suspended(migrations.carry_out(run))
    assert stage_of(control, before_cutover) is Stage.CUTOVER
    assert trail(control) == ["asked", "approved", "superseded", "asked"]
    assert "every order has a customer" in ApprovalStore(control).events()[2].why
    say(control, before_cutover, comment="they know")
    migrations.carry_out(run)
    assert stage_of(control, before_cutover) is Stage.DONE


def test_a_cutover_that_already_happened_is_not_asked_about(
    migrations: Deployed, control: ControlDatabase, before_cutover: int
) -> None:
    """A runner died after the flip and before it could note that the stage is done."""
    store = MigrationStore(control)
    lease = store.acquire(before_cutover, "a runner that died", None, 60)
    store.set_routing(lease, bound=SLOTS)
    store.release(lease)
    migrations.carry_out(migrations.create(migration_id=before_cutover))
    assert trail(control) == []
    assert stage_of(control, before_cutover) is Stage.DONE


def test_a_second_run_refers_to_the_one_that_waits(
    migrations: Deployed, control: ControlDatabase, plan_id: int, before_cutover: int
) -> None:
    first = waiting(migrations, before_cutover)
    second = migrations.carry_out(migrations.create(plan_id=plan_id))
    assert second.state is not None
    assert second.state.type is StateType.CANCELLED
    assert str(first.id) in (second.state.message or "")
    say(control, before_cutover)
    first = migrations.carry_out(first)
    assert first.state is not None
    assert first.state.is_completed()


@pytest.mark.parametrize("risk", ["0.01", "0.2", "null", '"high"'])
def test_below_a_risk_nobody_is_asked_and_the_report_says_why(
    migrations: Deployed, control: ControlDatabase, before_cutover: int, plan_id: int, risk: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("FORESHARD_APPROVAL__BELOW_RISK", "0.1")
    with control.transaction() as session:
        session.connection().exec_driver_sql(
            "UPDATE plans SET document = jsonb_build_object('risk_before', %s::jsonb) WHERE id = %s",
            (risk, plan_id),
        )
    migrations.carry_out(migrations.create(migration_id=before_cutover))
    if risk != "0.01":
        assert stage_of(control, before_cutover) is Stage.CUTOVER
        assert "approval.below_risk = 0.1" in attempt(control, before_cutover).why
        return
    assert stage_of(control, before_cutover) is Stage.DONE
    (event,) = ApprovalStore(control).events()
    why = "the plan was made for a risk of 0.01, below approval.below_risk = 0.1"
    assert (event.event, event.why) == ("not_asked", why)
    confirmation = MigrationStore(control).confirmation(before_cutover)
    assert confirmation is not None
    assert confirmation["not_asked"] == [{"flip": 1, "why": why}]
