"""Decide: which policy, which forecast, what is planned; and what it says of migrations that wait for a person."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import flow_run
from prefect.tasks import Task

from foreshard.control.engine import ControlDatabase
from foreshard.control.fleet_view import fleet_view
from foreshard.control.forecast_store import ForecastRecord, ForecastStore
from foreshard.control.migration_store import MigrationStore
from foreshard.control.plan_store import DecisionRecord, PlanStore
from foreshard.control.policy_store import PolicyStore, effective
from foreshard.errors import ForeshardError, InvalidInput, NotFound, OutOfDate
from foreshard.planning.plan import Decision, MigrationPlan
from foreshard.planning.planner import decide as make_decision
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.recheck import recheck
from foreshard.planning.view import FleetView
from foreshard.settings import Settings
from tasks import policy_variable
from tasks.retries import is_transient

TRIES = 4
"""So often a decision is made because the fleet changed while it was; then the run fails, and the next one decides."""


def _not_refused(task: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Whether trying again may help: not if what was given is wrong."""
    del task, task_run
    try:
        state.result()
    except ForeshardError:
        return False
    except Exception:
        return True
    return False


@task(
    name="read policy",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=2,
    retry_condition_fn=_not_refused,
)
def read_policy(
    control: ControlDatabase, settings: Settings, parameters: Mapping[str, Any], dry_run: bool
) -> DecisionPolicy:
    """Settings, above them the Prefect Variable, above that this run's parameters; changes are kept.

    Raises InvalidInput that names layer and field; then nothing is kept.
    """
    variable = policy_variable.read()
    policy = effective(settings.decision, variable, parameters)
    if not dry_run:
        who = f"flow run {flow_run.name} ({flow_run.id})"
        for change in PolicyStore(control).note(settings.decision, variable or {}, parameters, who):
            get_run_logger().info(
                "policy: %s: %s -> %s", change.layer, dict(change.before), dict(change.after)
            )
    return policy


@task(
    name="decide on a forecast",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=2,
    retry_condition_fn=is_transient,
)
def decide_on(
    control: ControlDatabase,
    settings: Settings,
    policy: DecisionPolicy,
    forecast_id: int | None = None,
    dry_run: bool = False,
) -> DecisionRecord:
    """The decision on that forecast (None: the newest) by that policy; one that was made already stays as it is.

    Runs of another step than the settings', of less far ahead, or of some metrics only are not decided on unless they
    are asked for. A ``dry_run`` stores nothing: its decision has the number 0.
    """
    plans = PlanStore(control)
    forecast = _forecast(control, settings, forecast_id)
    made = None if dry_run else plans.made(forecast.id, policy)
    if made is not None:
        get_run_logger().info(
            "Decision %d was made on forecast %d by this policy already.", made.id, forecast.id
        )
        return made
    for left in reversed(range(TRIES)):
        basis = plans.basis()
        view = fleet_view(control, settings, forecast)
        decision = make_decision(view, policy)
        if dry_run:
            _log(decision)
            return DecisionRecord(0, forecast.id, decision, {}, ())
        try:
            record = plans.save(decision, forecast.id, policy, basis)
        except OutOfDate:
            if not left:
                raise
            get_run_logger().info("The fleet changed meanwhile: deciding again.")
            continue
        _log(record.decision)
        if record.new:
            _check_waiting(control, view, policy, record)
        return record
    raise AssertionError


def _forecast(control: ControlDatabase, settings: Settings, forecast_id: int | None) -> ForecastRecord:
    store, wanted = ForecastStore(control), settings.forecast
    if forecast_id is not None:
        asked = store.get(forecast_id)
        if asked.metrics is not None:
            raise InvalidInput("forecast_id", f"forecast {forecast_id} is of {', '.join(asked.metrics)} only")
        return asked
    newest = store.newest_whole(timedelta(minutes=wanted.step_minutes), wanted.horizon_hours)
    if newest is None:
        raise NotFound(
            f"There is no forecast of {wanted.horizon_hours:g} h in steps of {wanted.step_minutes} min to decide on.",
            remedy="Run the forecast flow, without parameters.",
        )
    return newest


def _log(decision: Decision) -> None:
    logger = get_run_logger()
    for risk in decision.risks:
        logger.info("%s: score %.4f, worst %s", risk.shard, risk.score, risk.worst)
    for note in decision.notes:
        logger.info("not planned: %s", note)
    if decision.shortage is not None:
        logger.warning("%s", decision.shortage.text)


def _check_waiting(
    control: ControlDatabase, view: FleetView, policy: DecisionPolicy, record: DecisionRecord
) -> None:
    """Marks each plan that waits for approval with its source's risk by this forecast, were it given up."""
    store, logger = PlanStore(control), get_run_logger()
    waiting: dict[int, MigrationPlan] = {}
    for migration in MigrationStore(control).live():
        if migration.waiting_for is not None:
            try:
                waiting[migration.plan_id] = store.get(migration.plan_id).plan
            except InvalidInput:  # of a version with other plans
                continue
    if not waiting:
        return
    for number, found in recheck(view, waiting, policy).items():
        store.recheck(number, record.id, found.risk, supported=found.supported)
        if found.supported:
            logger.info("Plan %d waits for approval and is still needed: risk %.4f.", number, found.risk)
        else:
            logger.warning(
                "Plan %d waits for approval, but forecast %d does not ask for it any more: risk %.4f.",
                number,
                record.forecast_run_id,
                found.risk,
            )
