"""Holding a migration and taking it back by the flows: real Prefect, stages that touch no shard."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectHTTPStatusError
from prefect.states import Crashed, Scheduled

from flows.migrate import migrate
from flows.pause import pause
from flows.reverse import reverse
from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_store import MigrationStore
from foreshard.control.request_store import RequestStore
from foreshard.migration import runner as runners
from foreshard.migration.lifecycle import Stage
from foreshard.migration.progress import Progress, Report
from foreshard.migration.requests import Ask, Outcome, Way
from foreshard.migration.work import Work
from foreshard.topology.keys import SLOTS
from tasks import gates, recovery, steering
from tests.flows.conftest import Deployed
from tests.flows.test_approval import record_go

PATIENCE_S = 300.0
"""Against hanging only: flows at once may wait for each other's locks of SQLite a minute at a time."""


class Stages:
    """Stages that do nothing but say how far they are; one may be told to go on for ever."""

    def __init__(self) -> None:
        self.endless: Stage | None = None
        self.reached = threading.Event()

    def of(self, stage: Stage) -> Any:
        def run(work: Work, report: Report) -> dict[str, Any]:
            if stage is Stage.CUTOVER:
                work.store.set_routing(work.lease, bound=SLOTS)
            while True:
                report(Progress("waiting", 1, 2, "s"))
                if self.endless is not stage:
                    return {}
                self.reached.set()
                threading.Event().wait(0.05)

        return run


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Stages:
    made = Stages()
    monkeypatch.setattr(runners, "_RUN", {stage: made.of(stage) for stage in runners._RUN})
    monkeypatch.setattr(runners, "finish_interrupted", lambda *_: None)
    monkeypatch.setattr(runners.fingerprint, "refuse_change", lambda *_: None)
    monkeypatch.setattr(runners.retreat, "validate", lambda *_: None)
    monkeypatch.setattr(gates, "check", record_go)
    monkeypatch.setattr(runners.Runner, "_canary_steps", lambda _: ())
    return made


@pytest.fixture
def migration(control: ControlDatabase, plan_id: int, stages: Stages) -> int:
    del stages  # in force
    return MigrationStore(control).open(plan_id)


@pytest.fixture
def migrating(client: SyncPrefectClient) -> Deployed:
    return Deployed(migrate, client)


@pytest.fixture
def reversing(client: SyncPrefectClient) -> Deployed:
    return Deployed(reverse, client)


@contextmanager
def under_way(deployed: Deployed, run: FlowRun) -> Iterator[threading.Thread]:
    """The run in a thread, as another process would carry it out; waited for at the end."""
    thread = threading.Thread(target=deployed.carry_out, args=(run,))
    thread.start()
    try:
        yield thread
    finally:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def stage_of(control: ControlDatabase, migration: int) -> Stage:
    return MigrationStore(control).get(migration).stage


def state_of(client: SyncPrefectClient, run: FlowRun) -> tuple[str, str]:
    state = client.read_flow_run(run.id).state
    assert state is not None
    return state.name or "", state.message or ""


def ask(control: ControlDatabase, migration: int, kind: Ask) -> None:
    RequestStore(control).ask(migration, kind, "Ada", "lunch", Way.SHELL)


def paused(deployed: Deployed, control: ControlDatabase, migration: int) -> FlowRun:
    """A run that is suspended for a pause."""
    ask(control, migration, Ask.PAUSE)
    run = deployed.carry_out(deployed.create(migration_id=migration))
    assert run.state is not None
    assert run.state.name == "Suspended"
    assert MigrationStore(control).get(migration).waiting_for == "resume"
    return run


def approval(deployed: Deployed, migration: int) -> FlowRun:
    """A run that waits for an approval."""
    run = deployed.carry_out(deployed.create(migration_id=migration))
    assert run.state is not None
    assert str(run.state.state_details.pause_key).startswith("approval-")
    return run


def test_a_paused_run_is_suspended_and_goes_on_when_somebody_resumes_it_in_the_ui(
    migrating: Deployed, client: SyncPrefectClient, control: ControlDatabase, migration: int, stages: Stages
) -> None:
    stages.endless = Stage.BACKFILL
    run = migrating.create(migration_id=migration)
    with under_way(migrating, run):
        assert stages.reached.wait(PATIENCE_S)
        said = Deployed(pause, client)
        done = said.carry_out(said.create(migration_id=migration, who="Ada", why="lunch"))
    stages.endless = None
    assert done.state is not None
    assert done.state.is_completed()
    assert str(run.id) in (done.state.message or "")
    assert state_of(client, run)[0] == "Suspended"
    assert (stage_of(control, migration), MigrationStore(control).get(migration).failure) == (
        Stage.BACKFILL,
        None,
    )
    outcomes = [one.outcome for one in MigrationStore(control).stage_runs(migration)]
    assert outcomes[-1] == "interrupted"

    refused = client.resume_flow_run(run.id, run_input={"resumed_by": " "})
    assert refused.status.value == "REJECT"
    client.resume_flow_run(run.id, run_input={"resumed_by": "Bob"})
    run = migrating.carry_out(run)
    assert run.state is not None
    assert str(run.state.state_details.pause_key).startswith("approval-")  # it went on, to its cutover
    (held, resumed) = RequestStore(control).of(migration)
    assert (held.outcome, held.settled_by) == (Outcome.RESUMED, "Bob")
    assert (resumed.kind, resumed.asked_by, resumed.way) == (Ask.RESUME, "Bob", Way.UI)


@pytest.mark.slow
def test_an_approval_that_is_answered_while_it_is_paused_counts_after_the_resume(
    migrating: Deployed, client: SyncPrefectClient, control: ControlDatabase, migration: int
) -> None:
    run = approval(migrating, migration)
    ask(control, migration, Ask.PAUSE)
    client.resume_flow_run(run.id, run_input={"decision": "approve", "approver": "Ada", "comment": ""})
    run = migrating.carry_out(run)
    assert run.state is not None
    assert str(run.state.state_details.pause_key).startswith("pause-")
    assert MigrationStore(control).get(migration).bound == 0
    client.resume_flow_run(run.id, run_input={"resumed_by": "Bob"})
    run = migrating.carry_out(run)
    assert run.state is not None
    assert run.state.is_completed(), run.state
    assert stage_of(control, migration) is Stage.DONE


def test_a_pause_that_is_asked_for_during_the_checks_comes_before_the_approval(
    migrating: Deployed, control: ControlDatabase, migration: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(runner: Any, step: Any) -> Any:
        if step.stage is Stage.CUTOVER:
            ask(control, migration, Ask.PAUSE)
        return record_go(runner, step)

    monkeypatch.setattr(gates, "check", slow)
    run = migrating.carry_out(migrating.create(migration_id=migration))
    assert run.state is not None
    assert str(run.state.state_details.pause_key).startswith("pause-")
    assert MigrationStore(control).get(migration).waiting_for == "resume"


@pytest.mark.parametrize("crashed", [False, True], ids=["scheduled anew", "crashed and retried"])
def test_nothing_but_a_resume_gets_past_a_pause(
    migrating: Deployed, client: SyncPrefectClient, control: ControlDatabase, migration: int, crashed: bool
) -> None:
    run = paused(migrating, control, migration)
    before = run.state
    if crashed:
        client.set_flow_run_state(run.id, Crashed(), force=True)
    client.set_flow_run_state(run.id, Scheduled(), force=True)
    run = migrating.carry_out(run)
    assert run.state is not None
    assert before is not None
    assert run.state.name == "Suspended"
    assert run.state.state_details.pause_key != before.state_details.pause_key
    assert stage_of(control, migration) is Stage.PREFLIGHT
    assert RequestStore(control).open(migration) is not None


@pytest.mark.slow
def test_resumed_from_a_shell_the_suspended_run_goes_on(
    migrating: Deployed, client: SyncPrefectClient, control: ControlDatabase, migration: int
) -> None:
    """Also when Prefect was away just then: the janitor wakes the run."""
    run = paused(migrating, control, migration)
    assert recovery.unattended.fn(control) == []
    ask(control, migration, Ask.RESUME)
    (unattended,) = recovery.unattended.fn(control)

    @runs_in_a_flow
    def janitor() -> bool:
        return recovery.restart.fn(control, unattended)

    assert janitor() is False  # no new run
    run = migrating.carry_out(client.read_flow_run(run.id))
    assert run.state is not None
    assert str(run.state.state_details.pause_key).startswith("approval-")


def test_the_janitor_leaves_a_paused_migration_alone_whatever_became_of_its_run(
    migrating: Deployed, client: SyncPrefectClient, control: ControlDatabase, migration: int
) -> None:
    run = paused(migrating, control, migration)
    client.set_flow_run_state(run.id, Crashed(), force=True)
    assert recovery.unattended.fn(control) == []
    migrating.delete(run)
    assert recovery.unattended.fn(control) == []


def test_reverse_makes_the_run_that_drives_step_aside(
    migrating: Deployed, reversing: Deployed, client: SyncPrefectClient, control: ControlDatabase, migration: int,
    stages: Stages,
) -> None:  # fmt: skip
    stages.endless = Stage.READ_SHADOW
    run = migrating.create(migration_id=migration)
    with under_way(migrating, run):
        assert stages.reached.wait(PATIENCE_S)
        back = reversing.carry_out(reversing.create(migration_id=migration, who="Ada", why="too slow"))
    assert back.state is not None
    assert back.state.is_completed(), back.state
    assert stage_of(control, migration) is Stage.ABORTED
    name, message = state_of(client, run)
    assert name == "Cancelled"
    assert str(back.id) in message
    assert "Ada" in message
    (asked,) = RequestStore(control).of(migration)
    assert (asked.outcome, asked.carrier, asked.comment) == (Outcome.DONE, str(back.id), "too slow")


@pytest.mark.parametrize("waits", [paused, approval], ids=["paused", "for an approval"])
def test_reverse_cancels_a_run_that_waits_for_a_person(
    migrating: Deployed, reversing: Deployed, client: SyncPrefectClient, control: ControlDatabase, migration: int,
    waits: Any,
) -> None:  # fmt: skip
    run = waits(migrating, control, migration) if waits is paused else waits(migrating, migration)
    back = reversing.carry_out(reversing.create(migration_id=migration, who="Ada"))
    assert back.state is not None
    assert back.state.is_completed(), back.state
    name, message = state_of(client, run)
    assert name == "Cancelled"
    assert str(back.id) in message
    assert stage_of(control, migration) is Stage.ABORTED


@pytest.mark.slow
def test_reverse_during_the_soak(
    migrating: Deployed, reversing: Deployed, control: ControlDatabase, migration: int, stages: Stages,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("FORESHARD_APPROVAL__BEFORE", "never")
    stages.endless = Stage.SOAK
    run = migrating.create(migration_id=migration)
    with under_way(migrating, run):
        assert stages.reached.wait(PATIENCE_S)
        back = reversing.carry_out(reversing.create(migration_id=migration, who="Ada"))
    assert back.state is not None
    assert back.state.is_completed(), back.state
    assert stage_of(control, migration) is Stage.REVERSED


def test_of_two_reverse_runs_one_does_it_and_the_other_says_so(
    reversing: Deployed, client: SyncPrefectClient, control: ControlDatabase, migration: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    store = MigrationStore(control)
    lease = store.acquire(migration, "somebody", None, 60)  # both wait for it
    both = [reversing.create(migration_id=migration, who=name) for name in ("Ada", "Bob")]
    # Neither looks for the migration before both have asked, and it is let go then.
    asked = threading.Barrier(3)
    ask = steering.ask

    def ask_together(*given: Any) -> Any:
        try:
            return ask(*given)
        finally:
            asked.wait(PATIENCE_S)

    monkeypatch.setattr(steering, "ask", ask_together)
    with under_way(reversing, both[0]), under_way(reversing, both[1]):
        asked.wait(PATIENCE_S)
        store.release(lease)
    assert sorted(state_of(client, run)[0] for run in both) == ["Cancelled", "Completed"]
    loser = next(run for run in both if state_of(client, run)[0] == "Cancelled")
    assert "Another run was faster" in state_of(client, loser)[1]
    assert stage_of(control, migration) is Stage.ABORTED
    assert [one.outcome for one in RequestStore(control).of(migration)] == [Outcome.DONE]


@pytest.mark.slow
def test_a_request_whose_run_died_is_honoured_by_the_next_run_of_the_migration(
    migrating: Deployed,
    reversing: Deployed,
    client: SyncPrefectClient,
    control: ControlDatabase,
    migration: int,
) -> None:
    run = approval(migrating, migration)
    dead = reversing.create(migration_id=migration, who="Ada")
    RequestStore(control).ask(migration, Ask.REVERSE, "Ada", "", Way.UI, carrier=str(dead.id))
    (unattended,) = recovery.unattended.fn(control)

    @runs_in_a_flow
    def janitor() -> bool:
        return recovery.restart.fn(control, unattended)

    assert janitor() is False  # it may start still
    client.set_flow_run_state(dead.id, Crashed(), force=True)
    assert janitor() is True
    (again,) = [one for one in migrating.runs() if one.id != run.id]
    again = migrating.carry_out(again)
    assert again.state is not None
    assert again.state.is_cancelled()
    assert stage_of(control, migration) is Stage.ABORTED
    assert state_of(client, run)[0] == "Cancelled"


def runs_in_a_flow(function: Any) -> Any:
    """Tasks' loggers need a run."""
    from prefect import flow

    return flow(function, name="in a flow")


def test_pause_and_reverse_are_refused_with_one_error(
    reversing: Deployed, client: SyncPrefectClient, control: ControlDatabase, migration: int
) -> None:
    holding = Deployed(pause, client)
    for deployed, who in ((reversing, " "), (holding, "")):
        with pytest.raises(PrefectHTTPStatusError, match="who"):  # the form does not accept it
            deployed.create(migration_id=migration, who=who)
    unknown = reversing.carry_out(reversing.create(migration_id=migration + 7, who="Ada"))
    assert unknown.state is not None
    assert unknown.state.is_failed()
    assert "no migration" in (unknown.state.message or "")
    assert RequestStore(control).of(migration) == []
    done = reversing.carry_out(reversing.create(migration_id=migration, who="Ada"))
    assert done.state is not None
    assert done.state.is_completed()
    late = holding.carry_out(holding.create(migration_id=migration, who="Ada"))
    assert late.state is not None
    assert late.state.is_failed()
    assert "has ended" in (late.state.message or "")
