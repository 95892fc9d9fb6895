"""Prefect's API from outside a flow: for the command line and the demo.

`use` must come before anything else imports Prefect, which reads its environment once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foreshard.control.engine import ControlDatabase
from foreshard.control.plan_store import PlanRecord, PlanStore
from foreshard.errors import ConfigurationError, ForeshardError, IllegalTransition
from foreshard.settings import Settings, load_settings

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State


def use(settings: Settings) -> None:
    """Points Prefect at the configured server. Raises ConfigurationError if none is configured."""
    api_url = settings.prefect.api_url or os.environ.get("PREFECT_API_URL")
    if api_url is None:
        raise ConfigurationError(
            "prefect.api_url", "is missing", remedy="Set it in foreshard.toml or by PREFECT_API_URL."
        )
    os.environ["PREFECT_API_URL"] = api_url
    home = Path(os.environ.setdefault("PREFECT_HOME", str(settings.state_dir.absolute() / "prefect")))
    home.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("DO_NOT_TRACK", "1")


def secret_block(name: str) -> str:
    """The value of a Secret block of the configured server."""
    use(load_settings())
    from tasks.secret_blocks import read

    return read(name)


def start(flow: str, parameters: dict[str, Any] | None = None) -> str:
    """Starts a run of a deployment; returns its id."""
    from prefect.client.orchestration import get_client

    from tasks.runs import DEPLOYMENT

    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(f"{flow}/{DEPLOYMENT}")
        run = client.create_flow_run_from_deployment(deployment.id, parameters=parameters or {})
    return str(run.id)


def schedule(flow: str, *, active: bool) -> None:
    """Wakes or rests the schedules of a deployment, as the switch in the UI does."""
    from prefect.client.orchestration import get_client

    from tasks.runs import DEPLOYMENT

    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(f"{flow}/{DEPLOYMENT}")
        for one in deployment.schedules:
            client.update_deployment_schedule(deployment.id, one.id, active=active)


def is_served() -> bool:
    """Whether every deployment is registered and the scheduler has made a run: the whole machinery works."""
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
    from prefect.client.schemas.objects import StateType

    from tasks.runs import DEPLOYMENT, FLOWS

    scheduled = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
    )
    with get_client(sync_client=True) as client:
        try:
            served = [
                deployment
                for deployment in client.read_deployments(limit=50)
                if deployment.name == DEPLOYMENT
            ]
            return len(served) == len(FLOWS) and bool(
                client.read_flow_runs(flow_run_filter=scheduled, limit=1)
            )
        except httpx.HTTPError:
            return False


def is_suspended(run_id: str | None) -> bool:
    """Whether the run waits for an answer now."""
    from tasks.runs import state_of

    state = state_of(run_id)
    return state is not None and state.is_paused()


def wait_for_end(run_id: str, timeout_s: float) -> State:
    """Waits until the run has ended and returns its state. Raises ForeshardError if it takes too long."""
    from tasks.runs import state_of

    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        state = state_of(run_id)
        if state is not None and state.is_final():
            return state
        time.sleep(0.5)
    raise ForeshardError(
        f"Flow run {run_id} did not end within {timeout_s:g} s.", remedy="See it in the Prefect UI."
    )


def start_plan(control: ControlDatabase, record: PlanRecord) -> str:
    """A `migrate` run for a proposed plan, now; returns its id.

    Raises ForeshardError if a run of it is alive, or somebody else started, rejected or replaced it meanwhile.
    """
    from tasks.due_plans import start_run
    from tasks.runs import state_of

    state = state_of(record.flow_run_id)
    if state is not None and not state.is_final():
        raise IllegalTransition(
            f"Plan {record.id} is started already: its run {record.flow_run_id} is {state.name}.",
            remedy="See it in the Prefect UI.",
        )
    store = PlanStore(control)
    return str(start_run(store, record, store.claim_start(record.id, seen=record.attempts)))


def policy_overrides(settings: Settings) -> Any:
    """What the Variable of the standing policy holds; None if there is none."""
    use(settings)
    from tasks import policy_variable

    return policy_variable.read()


def override_policy(settings: Settings, overrides: Mapping[str, Any]) -> None:
    """Let these fields stand over the settings from the next decision on."""
    use(settings)
    from tasks import policy_variable

    policy_variable.write(overrides)
