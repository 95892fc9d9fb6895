"""Questions that nobody answers in time: no late answer opens a flip, and the janitor goes on as the settings say."""

from __future__ import annotations

from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Failed, Scheduled

from deployments.answering import answer
from flows.janitor import janitor
from foreshard.control.approval_store import ApprovalStore
from foreshard.control.engine import ControlDatabase
from foreshard.errors import ApprovalRequired
from foreshard.migration.lifecycle import Stage
from foreshard.settings import load_settings
from tasks import expiry, recovery
from tests.flows.approval_case import (
    attempt,
    fill_in,
    forge,
    inputs,
    key_of,
    let_expire,
    stage_of,
    suspended,
    trail,
    waiting,
)
from tests.flows.conftest import Deployed


@pytest.fixture(autouse=True)
def _only_this_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shards do not exist: the janitor has nothing to look after or to clean there."""
    monkeypatch.setattr(recovery, "give_owners", lambda *_: None)
    monkeypatch.setattr(recovery, "clean_up", lambda *_: [])


def goes_on(migrations: Deployed, earlier: FlowRun) -> FlowRun:
    """The one run that the janitor started in the place of ``earlier``, carried out."""
    (new,) = (run for run in migrations.runs() if run.id != earlier.id)
    return migrations.carry_out(new)


def test_the_janitor_asks_again_with_fresh_evidence(
    migrations: Deployed, client: SyncPrefectClient, control: ControlDatabase, before_cutover: int
) -> None:
    run = waiting(migrations, before_cutover)
    first = attempt(control, before_cutover)
    assert janitor() == [], "it waits"
    let_expire(control)
    assert janitor() == [before_cutover]
    ended = client.read_flow_run(run.id).state
    assert ended is not None
    assert ended.type is StateType.FAILED
    assert "expired" in str(ended.message)
    suspended(goes_on(migrations, run))
    second = attempt(control, before_cutover)
    assert second.id != first.id
    assert second.gate_run_id != first.gate_run_id
    assert trail(control) == ["asked", "expired", "asked"]
    assert [event.way for event in ApprovalStore(control).events()] == ["flow", "janitor", "flow"]
    assert janitor() == []


def test_the_janitor_gives_up_what_nobody_answered(
    migrations: Deployed, control: ControlDatabase, before_cutover: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORESHARD_APPROVAL__ON_EXPIRY", "abort")
    run = waiting(migrations, before_cutover)
    let_expire(control)
    assert janitor() == [before_cutover]
    new = goes_on(migrations, run)
    assert new.state is not None
    assert new.state.is_cancelled()
    assert stage_of(control, before_cutover) is Stage.ABORTED
    assert trail(control) == ["asked", "expired"]


@pytest.mark.parametrize("on_expiry", ["ask_again", "abort"])
def test_where_prefect_ended_the_wait_first_it_goes_on_all_the_same(
    migrations: Deployed, client: SyncPrefectClient, control: ControlDatabase, before_cutover: int, on_expiry: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Its pause service says Failed; a token may lie there still."""
    monkeypatch.setenv("FORESHARD_APPROVAL__ON_EXPIRY", on_expiry)
    run = waiting(migrations, before_cutover)
    let_expire(control)
    client.set_flow_run_state(run.id, Failed(message="The flow was paused and never resumed."), force=True)
    forge(client, run, key_of(run), decision="approve", approver="Ada", token="fsa_secret")
    assert janitor() == [before_cutover]
    assert "fsa_secret" not in str(inputs(client, run))
    goes_on(migrations, run)
    assert stage_of(control, before_cutover) is (Stage.CUTOVER if on_expiry == "ask_again" else Stage.ABORTED)


@pytest.mark.parametrize("way", ["form", "api", "forged"])
@pytest.mark.parametrize("on_expiry", ["ask_again", "abort"])
def test_an_answer_that_comes_too_late_opens_nothing(
    migrations: Deployed, client: SyncPrefectClient, control: ControlDatabase, before_cutover: int, way: str,
    on_expiry: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Given in time and read too late; given too late in the form; written past it."""
    monkeypatch.setenv("FORESHARD_APPROVAL__ON_EXPIRY", on_expiry)
    run = waiting(migrations, before_cutover)
    if way == "api":
        answer(control, load_settings(), before_cutover, approve=True, approver="Ada")
        let_expire(control)
    else:
        let_expire(control)
        with pytest.raises(ApprovalRequired, match="expired"):
            answer(control, load_settings(), before_cutover, approve=True, approver="Ada")
        if way == "form":
            fill_in(client, run, decision="approve", approver="Ada", comment="")
        else:
            forge(client, run, key_of(run), decision="approve", approver="Ada", comment="")
            client.set_flow_run_state(run.id, Scheduled(), force=True)
    migrations.carry_out(run)
    assert trail(control)[:3] == ["asked", "expired", "refused"]
    if on_expiry == "abort":
        assert stage_of(control, before_cutover) is Stage.ABORTED
    else:
        assert stage_of(control, before_cutover) is Stage.CUTOVER
        assert attempt(control, before_cutover).state == "pending"
    assert "approved" not in trail(control)


def test_the_wait_of_prefect_is_longer_than_the_attempt(
    migrations: Deployed, control: ControlDatabase, before_cutover: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the attempt is expired by our clock before Prefect ends the wait by its own."""
    monkeypatch.setenv("FORESHARD_APPROVAL__TIMEOUT_S", "1000")
    run = waiting(migrations, before_cutover)
    assert run.state is not None
    ends = run.state.state_details.pause_timeout
    assert ends is not None
    later = (ends - attempt(control, before_cutover).expires_at).total_seconds()
    assert 290 < later < 310


def test_a_run_that_died_before_it_stored_its_form_is_asked_again(
    migrations: Deployed, client: SyncPrefectClient, before_cutover: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = waiting(migrations, before_cutover)
    for key in inputs(client, run):
        client.delete_flow_run_input(run.id, key)
    response: Any = fill_in(client, run, decision="approve", approver="Ada", comment="")
    assert "schema not found" in response.details.reason, "nobody can answer it"
    assert janitor() == [], "it may be storing it just now"
    monkeypatch.setattr(expiry, "FORM_WITHIN", expiry.FORM_WITHIN * 0)
    assert janitor() == [before_cutover]
    suspended(goes_on(migrations, run))


def test_a_run_that_was_deleted_while_it_waited_is_replaced(
    migrations: Deployed, control: ControlDatabase, before_cutover: int
) -> None:
    run = waiting(migrations, before_cutover)
    migrations.delete(run)
    assert janitor() == [before_cutover]
    suspended(goes_on(migrations, run))
    assert trail(control) == ["asked", "superseded", "asked"]


def test_what_a_person_cancelled_is_left_alone_and_its_answers_are_deleted(
    migrations: Deployed, client: SyncPrefectClient, control: ControlDatabase, before_cutover: int
) -> None:
    from prefect.states import Cancelled

    run = waiting(migrations, before_cutover)
    fill_in(client, run, decision="approve", approver="Ada", comment="fsa_secret")
    client.set_flow_run_state(run.id, Cancelled(), force=True)
    let_expire(control)
    assert janitor() == []
    assert "fsa_secret" not in str(inputs(client, run))
    assert attempt(control, before_cutover).state == "expired"
