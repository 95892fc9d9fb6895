"""Decide: look at the fleet, plan, store, start what was planned."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from foreshard.control.engine import ControlDatabase
from foreshard.control.fleet_view import fleet_view
from foreshard.control.forecast_store import ForecastStore
from foreshard.control.plan_store import DecisionRecord, PlanRecord, PlanStore
from foreshard.errors import NotFound
from foreshard.planning.planner import decide as make_decision
from foreshard.settings import Settings
from tasks import runs
from tasks.recovery import run_name
from tasks.retries import is_transient


@task(
    name="decide on the newest forecast",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=2,
    retry_condition_fn=is_transient,
)
def decide_on_newest(control: ControlDatabase, settings: Settings) -> DecisionRecord:
    """The decision on the newest forecast; one that was made already stays as it is.

    Runs of another step than the settings', of less far ahead, or of some metrics only are not decided on.
    """
    wanted = settings.forecast
    step = timedelta(minutes=wanted.step_minutes)
    forecast = ForecastStore(control).newest_whole(step, wanted.horizon_hours)
    if forecast is None:
        raise NotFound(
            f"There is no forecast of {wanted.horizon_hours:g} h in steps of {wanted.step_minutes} min to decide on.",
            remedy="Run the forecast flow, without parameters.",
        )
    view = fleet_view(control, settings, forecast)
    decided = PlanStore(control).save(make_decision(view, settings.decision), forecast.id, settings.decision)
    logger = get_run_logger()
    for risk in decided.decision.risks:
        logger.info("%s: score %.4f, worst %s", risk.shard, risk.score, risk.worst)
    for note in decided.decision.notes:
        logger.info("not planned: %s", note)
    return decided


@task(name="start migration", cache_policy=NO_CACHE, retries=3, retry_delay_seconds=2)
def start_migration(record: PlanRecord) -> UUID:
    """A `migrate` run for the plan; a second call finds the first one's run."""
    plan = record.plan
    return runs.start(
        "migrate",
        {"plan_id": record.id},
        idempotency_key=f"plan-{record.id}",
        run_name=run_name(plan.source, plan.target, len(plan.buckets)),
    )
