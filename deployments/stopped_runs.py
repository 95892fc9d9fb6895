"""Runs whose process is gone, and places that such runs still hold: what Prefect would believe for too long."""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

import psutil
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from tasks.runs import DEPLOYMENT

RUN_VARIABLE = "PREFECT__FLOW_RUN_ID"
"""In the environment of each flow run's process."""

HOLDS_A_SLOT = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
STOPPED = "`foreshard serve` was stopped while this ran."


def under_way() -> frozenset[UUID]:
    """The flow runs that are processes below this one."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error, ValueError, KeyError):
            found.add(UUID(process.environ()[RUN_VARIABLE]))
    return frozenset(found)


def tell(stopped: frozenset[UUID]) -> list[str]:
    """Tells Prefect that these runs' processes were ended; returns the names of those that it had to be told of.

    Not of those that have ended by themselves, or wait for a person. They are called crashed, not cancelled: what was
    cancelled the janitor leaves to people. Raises httpx.HTTPError if Prefect is away.
    """
    if not stopped:
        return []
    told = []
    with get_client(sync_client=True) as client:
        for run_id in stopped:
            with suppress(ObjectNotFound):
                run = client.read_flow_run(run_id)
                if run.state is not None and run.state.type in HOLDS_A_SLOT:
                    client.set_flow_run_state(run_id, Crashed(message=STOPPED), force=True)
                    told.append(run.name)
    return sorted(told)


def free_slots() -> dict[str, int]:
    """Frees places of deployments' limits that no run holds any more; returns how many, by deployment.

    Prefect's server keeps in memory which run holds one: after a restart of the server the place of a run that died
    with it would be taken for ever, and no other could start.
    """
    freed = {}
    with get_client(sync_client=True) as client:
        for one in client.read_deployments(limit=200):
            limit = one.global_concurrency_limit
            if one.name != DEPLOYMENT or limit is None or not limit.active_slots:
                continue
            holding = _holding(client, one.id)
            if holding < limit.active_slots:
                client.update_global_concurrency_limit(
                    limit.name, GlobalConcurrencyLimitUpdate(active_slots=holding)
                )
                freed[limit.name] = limit.active_slots - holding
    return freed


def _holding(client: SyncPrefectClient, deployment_id: UUID) -> int:
    runs = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=HOLDS_A_SLOT))
        ),
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id])),
        limit=200,
    )
    return len(runs)
