"""Runs that died, were deleted, cancelled or doubled, and a Prefect server that is away: what becomes of migrations."""

from __future__ import annotations

import importlib
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Cancelled, Cancelling, Crashed, Pending, Running

from flows.janitor import janitor
from flows.migrate import migrate
from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_store import MigrationStore
from foreshard.migration.lifecycle import Stage
from tasks import recovery, runs, zombies
from tests.flows.conftest import Deployed

MIGRATE = importlib.import_module("flows.migrate")
"""The module; the package's attribute of that name may be the flow."""


@pytest.fixture
def deployed(client: SyncPrefectClient, control: ControlDatabase) -> Deployed:
    del control
    return Deployed(migrate, client)


@pytest.fixture
def store(control: ControlDatabase) -> MigrationStore:
    return MigrationStore(control)


@pytest.fixture
def number(store: MigrationStore, plan_id: int) -> int:
    """A migration that nobody has driven yet."""
    return store.open(plan_id)


def abandon(store: MigrationStore, number: int, run: FlowRun) -> None:
    """As a runner leaves it that was killed: its lease has run out, and nothing was noted."""
    store.release(store.acquire(number, "a runner that died", str(run.id), 60))


def dead_run(deployed: Deployed, store: MigrationStore, number: int) -> FlowRun:
    run = deployed.create(migration_id=number)
    deployed.call_it_running(run)
    abandon(store, number, run)
    return run


def others(deployed: Deployed, *known: FlowRun) -> list[FlowRun]:
    return [run for run in deployed.runs() if run.id not in {one.id for one in known}]


def state_of(client: SyncPrefectClient, run: FlowRun) -> State:
    state = client.read_flow_run(run.id).state
    assert state is not None
    return state


@pytest.mark.parametrize("end", [Crashed(), Pending(), Running()])
def test_a_new_run_that_dies_before_it_has_the_lease_is_followed_by_another(
    deployed: Deployed, client: SyncPrefectClient, store: MigrationStore, number: int,
    monkeypatch: pytest.MonkeyPatch, end: State,
) -> None:  # fmt: skip
    """Its key was used up: the same key again would give the dead run for ever."""
    first = dead_run(deployed, store, number)
    assert janitor() == [number]
    (second,) = others(deployed, first)
    client.set_flow_run_state(second.id, end, force=True)
    monkeypatch.setattr(recovery, "TAKES_LEASE_WITHIN", timedelta(0))
    assert janitor() == [number]
    (third,) = others(deployed, first, second)
    assert state_of(client, third).is_scheduled()
    assert state_of(client, second).is_crashed()
    assert janitor() == [number], "it is on its way, and told so"
    assert len(deployed.runs()) == 3

    client.set_flow_run_state(third.id, Crashed(), force=True)
    assert janitor() == [], "what dies twice at its start is given time"
    assert len(deployed.runs()) == 3


def test_a_run_that_has_just_begun_is_given_time_to_take_the_lease(
    deployed: Deployed, store: MigrationStore, number: int
) -> None:
    first = dead_run(deployed, store, number)
    janitor()
    (second,) = others(deployed, first)
    deployed.call_it_running(second)
    janitor()
    assert len(deployed.runs()) == 2


def test_a_run_that_was_deleted_is_replaced(deployed: Deployed, store: MigrationStore, number: int) -> None:
    """While it drove, and then while it waited for a person: retention and people delete both."""
    first = dead_run(deployed, store, number)
    deployed.delete(first)
    assert janitor() == [number]
    (second,) = deployed.runs()
    store.release(store.acquire(number, "runner", str(second.id), 60), waiting_for="approval")
    deployed.delete(second)
    assert janitor() == [number]
    assert len(deployed.runs()) == 1


def test_a_run_that_died_on_its_way_to_be_suspended_is_replaced(
    deployed: Deployed, client: SyncPrefectClient, store: MigrationStore, number: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Or whose server was away just then: Prefect calls it running, and nobody could ever answer it."""
    run = deployed.create(migration_id=number)
    deployed.call_it_running(run)
    store.release(store.acquire(number, "runner", str(run.id), 60), waiting_for="approval")
    assert janitor() == [], "it may be about to suspend"
    monkeypatch.setattr(recovery, "SUSPENDS_WITHIN", timedelta(0))
    assert janitor() == [number]
    assert state_of(client, run).is_crashed()


def test_janitors_at_once_start_one_run(deployed: Deployed, store: MigrationStore, number: int) -> None:
    first = dead_run(deployed, store, number)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: janitor(), range(3)))
    assert len(others(deployed, first)) == 1


@pytest.mark.parametrize("state", [Cancelled(), Cancelling()])
def test_what_a_person_cancelled_goes_on_by_its_number_only(
    deployed: Deployed, client: SyncPrefectClient, store: MigrationStore, number: int, state: State
) -> None:
    run = dead_run(deployed, store, number)
    client.set_flow_run_state(run.id, state, force=True)
    assert janitor() == []
    assert len(deployed.runs()) == 1
    again = deployed.carry_out(deployed.create(migration_id=number))
    assert store.get(number).flow_run_id == str(again.id), "it had the lease; its shards do not exist"


@pytest.mark.parametrize("by", ["plan_id", "migration_id"])
def test_a_second_run_of_one_plan_changes_nothing(
    deployed: Deployed, store: MigrationStore, plan_id: int, number: int, by: str
) -> None:
    """Started by hand, or by the retry button of a run that another one has followed."""
    driving = deployed.create(plan_id=plan_id)
    deployed.call_it_running(driving)
    lease = store.acquire(number, str(driving.id), str(driving.id), 60)
    before = store.get(number)
    second = deployed.carry_out(deployed.create(**{by: plan_id if by == "plan_id" else number}))
    assert second.state is not None
    assert second.state.is_cancelled()
    assert f"driven by flow run {driving.id}" in (second.state.message or "")
    assert store.get(number) == before
    store.renew(lease, 60)  # and the lease is the first one's still


def test_a_run_that_meets_a_lease_which_is_no_runs_fails(
    deployed: Deployed, store: MigrationStore, number: int
) -> None:
    """Somebody at a shell holds it, or the janitor for a moment: there is no run to name."""
    store.borrow(number, "somebody at a shell", 60)
    run = deployed.carry_out(deployed.create(migration_id=number))
    assert run.state is not None
    assert run.state.is_failed()
    assert "driven by another runner" in (run.state.message or "")


def test_a_run_that_stood_back_is_followed_when_the_driving_one_dies(
    deployed: Deployed, client: SyncPrefectClient, store: MigrationStore, number: int
) -> None:
    """A stalled runner that came back held the lease when the janitor's run began: nobody cancelled that run."""
    first = dead_run(deployed, store, number)
    assert janitor() == [number]
    (second,) = others(deployed, first)
    stalled = Cancelled(name=runs.DRIVEN_ELSEWHERE, message="driven by the first one")
    client.set_flow_run_state(second.id, stalled, force=True)
    assert janitor() == [number]
    assert len(others(deployed, first, second)) == 1


def test_a_server_that_is_away_is_no_failure_of_the_migration(
    deployed: Deployed, store: MigrationStore, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease is given back at once and the janitor goes on; a real failure would be left to people."""

    def away(*_: object) -> None:
        raise httpx.ConnectError("connection refused")

    with monkeypatch.context() as patched:
        patched.setattr(MIGRATE, "_work", away)
        run = deployed.carry_out(deployed.create(migration_id=number))
    assert run.state is not None
    assert run.state.is_failed()
    assert (store.get(number).failure, [one.id for one in store.abandoned()]) == (None, [number])
    assert janitor() == [number]


def test_a_request_that_was_wrong_is_a_failure(
    deployed: Deployed, store: MigrationStore, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = httpx.Request("GET", "http://127.0.0.1/")

    def refused(*_: object) -> None:
        raise httpx.HTTPStatusError("no", request=request, response=httpx.Response(422, request=request))

    monkeypatch.setattr(MIGRATE, "_work", refused)
    deployed.carry_out(deployed.create(migration_id=number))
    assert store.get(number).failure is not None
    assert janitor() == []


def test_a_failed_run_that_the_server_never_heard_the_end_of_is_replaced(
    deployed: Deployed, client: SyncPrefectClient, store: MigrationStore, number: int
) -> None:
    run = dead_run(deployed, store, number)
    assert janitor() == [number]
    assert state_of(client, run).is_crashed()


def test_runs_that_cannot_be_alive_are_called_crashed(
    deployed: Deployed, client: SyncPrefectClient, store: MigrationStore, plan_id: int, number: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """One whose migration another run drives, one whose migration has ended; the driving and the waiting stay."""
    monkeypatch.setattr(zombies, "LEAVES_WITHIN", timedelta(0))
    zombie, driving = deployed.create(plan_id=plan_id), deployed.create(migration_id=number)
    waiting = deployed.create(migration_id=number)
    for run in (zombie, driving):
        deployed.call_it_running(run)
    lease = store.acquire(number, "alive", str(driving.id), 60)
    janitor()
    assert [state_of(client, run).type for run in (zombie, driving, waiting)] == [
        StateType.CRASHED, StateType.RUNNING, StateType.SCHEDULED,
    ]  # fmt: skip
    store.go_to(lease, Stage.ABORTING)
    store.go_to(lease, Stage.ABORTED)
    janitor()
    assert state_of(client, driving).is_crashed()


def test_a_janitor_that_runs_since_hours_is_dead(client: SyncPrefectClient, control: ControlDatabase) -> None:
    del control
    served = Deployed(janitor, client)
    run = served.create()
    served.call_it_running(run)
    janitor()
    assert state_of(client, run).is_running(), "it may be at work"
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(zombies.LONGEST, "janitor", timedelta(0))
        janitor()
    assert state_of(client, run).is_crashed()
