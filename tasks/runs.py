"""Prefect runs as Foreshard starts and mends them. Prefect's states are a view: our rows are the truth."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Crashed

DEPLOYMENT = "main"
"""The name of every deployment: `migrate/main`."""

DRIVEN_ELSEWHERE = "Driven elsewhere"
"""The name of the Cancelled state of a run that found its migration driven by another one."""

FLOWS = ("collect", "forecast", "decide", "migrate", "pause", "reverse", "verify", "janitor", "calendar-edit")


def start(flow: str, parameters: dict[str, Any], idempotency_key: str, run_name: str | None = None) -> UUID:
    """Starts a run of a deployment and returns its id at once; the same key gives the same run.

    Not as a subflow: a subflow cannot suspend for an approval.
    """
    run = cast(
        FlowRun,
        run_deployment(
            f"{flow}/{DEPLOYMENT}",
            parameters=parameters,
            timeout=0,
            as_subflow=False,
            idempotency_key=idempotency_key,
            flow_run_name=run_name,
        ),
    )
    return run.id


def state_of(flow_run_id: str | None) -> State | None:
    """The state of a run; None if there is no such run any more."""
    if flow_run_id is None:
        return None
    with get_client(sync_client=True) as client:
        try:
            return client.read_flow_run(UUID(flow_run_id)).state
        except ObjectNotFound:
            return None


def is_over(flow_run_id: str | None) -> bool:
    """Whether nothing comes of that run any more: it has ended, or there is none."""
    state = state_of(flow_run_id)
    return state is None or state.is_final()


def has_form(client: SyncPrefectClient, flow_run_id: UUID, state: State) -> bool:
    """Whether a run that waits for a person can be answered: Prefect looks for its form's schema first, and turns every
    answer away where it is missing. A run stores it right after it has suspended, in a request of its own.
    """
    keys = state.state_details.run_input_keyset
    if not keys:
        return True  # it asks for nothing
    return bool(client.filter_flow_run_input(flow_run_id, keys["schema"], 1, set()))


def cancel_waiting(flow_run_id: str, message: str) -> bool:
    """Says CANCELLED of a run that waits for a person, and of no other."""
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(UUID(flow_run_id)).state
        if state is None or state.type is not StateType.PAUSED:
            return False
        client.set_flow_run_state(UUID(flow_run_id), Cancelled(message=message), force=True)
    return True


def at_work() -> list[tuple[str, FlowRun]]:
    """The runs of our deployments that call themselves RUNNING or PENDING, each with its flow's name."""
    states = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING]))
    ours = DeploymentFilter(name=DeploymentFilterName(any_=[DEPLOYMENT]))
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=states), deployment_filter=ours, limit=200
        )
        names = {flow_id: client.read_flow(flow_id).name for flow_id in {run.flow_id for run in found}}
    return [(names[run.flow_id], run) for run in found]


def mark_crashed(flow_run_id: str, message: str) -> bool:
    """Says CRASHED of a run that still calls itself RUNNING or PENDING; never of one that waits, or was deleted.

    When the serving process dies its runs stay RUNNING for ever, and a running run cannot be retried.
    """
    with get_client(sync_client=True) as client:
        state = state_of(flow_run_id)
        if state is None or state.type not in (StateType.RUNNING, StateType.PENDING):
            return False
        client.set_flow_run_state(UUID(flow_run_id), Crashed(message=message), force=True)
    return True
