"""`foreshard serve`: all flows as deployments of one small process, the embedded default.

Entrypoints are module paths (`flows.forecast.forecast`), so that a run works from any directory. The flows'
processes inherit this one's environment: settings file, Prefect's address, failpoints of a kill test.
"""

from __future__ import annotations

import os
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from prefect import serve as serve_deployments
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentEventTrigger
from prefect.flows import Flow
from prefect.types import DateTime
from prefect.types.entrypoint import EntrypointType

from deployments import automations, docs_server, metrics_server
from flows.calendar_edit import calendar_edit
from flows.collect import collect
from flows.decide import decide
from flows.forecast import forecast
from flows.janitor import janitor
from flows.migrate import migrate
from flows.reverse import reverse
from flows.verify import verify
from foreshard.settings import load_settings
from tasks.events import FORECAST_COMPLETED
from tasks.runs import DEPLOYMENT

RUNS_AT_ONCE = 6
EVERY_MINUTE = timedelta(minutes=1)
EVERY_QUARTER = timedelta(minutes=15)
EVERY_HOUR = timedelta(hours=1)


def deployments(verify_every: timedelta | None = EVERY_QUARTER) -> list[RunnerDeployment]:
    """What is served: schedules for collect, forecast, verify and janitor; decide follows each forecast.

    ``verify_every`` None: `verify` runs when somebody starts it.
    """
    after_forecast = DeploymentEventTrigger(
        name="decide after forecast",
        description="Starts decide when a forecast is complete.",
        expect={FORECAST_COMPLETED},
    )
    return [
        _deployment(collect, interval=EVERY_MINUTE),
        _deployment(forecast, interval=EVERY_HOUR),
        _deployment(decide, triggers=[after_forecast]),
        _deployment(calendar_edit),
        _deployment(migrate),
        _deployment(reverse),
        _deployment(verify, interval=verify_every) if verify_every else _deployment(verify),
        _deployment(janitor, interval=EVERY_MINUTE),
    ]


def _deployment(flow: Flow[Any, Any], **options: Any) -> RunnerDeployment:
    made = flow.to_deployment(DEPLOYMENT, entrypoint_type=EntrypointType.MODULE_PATH, **options)
    return cast(RunnerDeployment, made)


def drop_backlog() -> int:
    """Deletes scheduled runs that nobody was there to start; returns how many.

    After an hour's absence sixty late `collect` runs would start at once. Only runs that a schedule made are
    touched: a migration that was asked for stays.
    """
    before_now = FlowRunFilterExpectedStartTime(before_=DateTime.now("UTC"))
    scheduled = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
    ours = DeploymentFilter(name=DeploymentFilterName(any_=[DEPLOYMENT]))
    dropped = 0
    with get_client(sync_client=True) as client:
        while runs := [
            run
            for run in client.read_flow_runs(
                flow_run_filter=FlowRunFilter(state=scheduled, expected_start_time=before_now),
                deployment_filter=ours,
                limit=200,
            )
            if run.auto_scheduled
        ]:
            for run in runs:
                client.delete_flow_run(run.id)
            dropped += len(runs)
    return dropped


def use_own_scratch() -> Path:
    """A directory for temporary files of our own, for this process and the runs it starts; returns it.

    Prefect's runner keeps its files in one directory of the machine's, which belongs to whoever served first.
    """
    scratch = load_settings().state_dir.resolve() / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(scratch)
    return scratch


def serve(query_seconds: float = 2.0) -> None:
    """Serves until interrupted; the Data Docs of gate runs and metrics too. The automations of alerts are applied."""
    use_own_scratch()
    drop_backlog()
    settings = load_settings()
    every_s = settings.checks.verify_every_s
    automations.apply_on_serve(settings)
    with docs_server.beside(settings), metrics_server.beside(settings):
        serve_deployments(
            *deployments(timedelta(seconds=every_s) if every_s else None),
            limit=RUNS_AT_ONCE,
            query_seconds=query_seconds,
            print_starting_message=False,
        )
