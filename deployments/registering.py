"""The table of `served.py` as Prefect's deployments."""

from __future__ import annotations

from importlib import import_module
from typing import Any, cast

from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentEventTrigger, DeploymentTriggerTypes, TriggerTypes
from prefect.flows import Flow
from prefect.types.entrypoint import EntrypointType

from deployments.served import NAME, Served


def deployment(one: Served, *, active: bool = True) -> RunnerDeployment:
    """What is registered. Not ``active``: its schedule is there, and rests."""
    schedules = []
    if one.schedule is not None:
        interval = IntervalSchedule(interval=one.schedule.every, anchor_date=one.schedule.anchor)
        schedules.append(DeploymentScheduleCreate(schedule=interval, active=active))
    triggers: list[DeploymentTriggerTypes | TriggerTypes] = []
    if one.after_event is not None:
        triggers.append(
            DeploymentEventTrigger(
                name=one.trigger_name,
                description=f"Starts {one.name} at each event {one.after_event}.",
                expect={one.after_event},
            )
        )
    limit = None
    if one.at_once is not None:
        strategy = ConcurrencyLimitStrategy(one.at_once.collision)
        limit = ConcurrencyLimitConfig(limit=one.at_once.runs, collision_strategy=strategy)
    made = flow_of(one).to_deployment(
        NAME,
        entrypoint_type=EntrypointType.MODULE_PATH,
        schedules=schedules,
        triggers=triggers,
        concurrency_limit=limit,
        tags=one.tags,
    )
    return cast(RunnerDeployment, made)


def flow_of(one: Served) -> Flow[Any, Any]:
    """The flow itself; imports its module."""
    module, _, function = one.entrypoint.rpartition(".")
    return cast("Flow[Any, Any]", getattr(import_module(module), function))
