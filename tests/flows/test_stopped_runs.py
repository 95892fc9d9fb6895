"""What the serving process tells Prefect of the runs that it ended with itself."""

from __future__ import annotations

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.states import Completed, Suspended

from deployments import stopped_runs
from foreshard.control.engine import ControlDatabase
from tests.flows.conftest import Deployed


def state_of(client: SyncPrefectClient, run: FlowRun) -> tuple[str, str | None]:
    state = client.read_flow_run(run.id).state
    assert state is not None
    return state.type.value, state.message


def test_only_those_that_still_call_themselves_running_are_called_crashed(
    migrations: Deployed, client: SyncPrefectClient, control: ControlDatabase
) -> None:
    del control
    running, ended, waiting, deleted = (migrations.create(migration_id=number) for number in range(1, 5))
    migrations.call_it_running(running)
    client.set_flow_run_state(ended.id, Completed(message="by itself"), force=True)
    client.set_flow_run_state(waiting.id, Suspended(message="for a person", timeout_seconds=600), force=True)
    migrations.delete(deleted)
    told = stopped_runs.tell(frozenset(run.id for run in (running, ended, waiting, deleted)))
    assert told == [running.name]
    assert state_of(client, running) == ("CRASHED", stopped_runs.STOPPED)
    assert state_of(client, ended) == ("COMPLETED", "by itself")
    assert state_of(client, waiting)[0] == "PAUSED"
    assert stopped_runs.tell(frozenset()) == []
