"""What is drawn of a stored plan: both ends' history and forecast, and their load with the plan done."""

from __future__ import annotations

import numpy as np

from foreshard.control.engine import ControlDatabase
from foreshard.control.forecast_picture import read_picture
from foreshard.control.forecast_store import ForecastRecord, ForecastStore
from foreshard.control.plan_store import PlanRecord, PlanStore
from foreshard.control.topology_store import TopologyStore
from foreshard.errors import NotFound
from foreshard.forecast.band import Floats
from foreshard.forecast.series import SeriesKey
from foreshard.forecast_plot import ForecastPicture
from foreshard.plan_plot import EndPicture, PlanPicture
from foreshard.planning.plan import Effect, MigrationPlan
from foreshard.planning.policy import DecisionPolicy
from foreshard.settings import Settings


def plan_picture(control: ControlDatabase, settings: Settings, record: PlanRecord) -> PlanPicture | None:
    """In the resource that the plan is about; None where the forecast that it was made on is no longer kept.

    The load with the plan done is the one that the plan's own numbers mean: the source keeps as large a part of its load
    as of its predicted peak, the rest comes to the target.
    """
    made = PlanStore(control).decision(record.decision_id)
    forecast = ForecastStore(control).get(made.forecast_run_id)
    plan, metric = record.plan, metric_of(record.plan)
    source, target = (
        _read(control, settings, forecast, shard, metric) for shard in (plan.source, plan.target)
    )
    if source is None or target is None:
        return None
    level = float(made.policy.get("predicted_quantile", DecisionPolicy().predicted_quantile))
    leaves, limits = _leaves(plan, metric), {one.shard: one.limit for one in plan.effects if one.metric == metric}
    load = {one.result.key.shard: one.result.band.at(level) for one in (source, target)}
    moved = load[plan.source] * leaves
    ends = [
        EndPicture(shard, one.history, one.result.band, then, one.capacity, limits[shard])
        for shard, one, then in (
            (plan.source, source, load[plan.source] - moved),
            (plan.target, target, load[plan.target] + moved),
        )
        if one.capacity is not None
    ]
    if len(ends) < 2:
        return None
    return PlanPicture(plan, metric, ends[0], ends[1], forecast.step, level, settings.clock.timezone)


def metric_of(plan: MigrationPlan) -> str:
    """The resource that the plan is about: on its source the one that was closest to its limit."""
    return max(_at(plan, plan.source), key=lambda one: one.peak_before / one.limit).metric


def _leaves(plan: MigrationPlan, metric: str) -> Floats:
    """The part of the source's load that leaves it."""
    (effect,) = [one for one in _at(plan, plan.source) if one.metric == metric]
    kept = effect.peak_after / effect.peak_before if effect.peak_before > 0 else 1.0
    return np.array(1.0 - min(kept, 1.0))


def _at(plan: MigrationPlan, shard: str) -> list[Effect]:
    return [one for one in plan.effects if one.shard == shard]


def _read(
    control: ControlDatabase, settings: Settings, forecast: ForecastRecord, shard: str, metric: str
) -> ForecastPicture | None:
    result = ForecastStore(control).result(forecast.id, SeriesKey(shard, None, metric))
    return None if result is None else read_picture(control, settings, forecast, result)
