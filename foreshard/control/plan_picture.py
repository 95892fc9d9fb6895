"""What is drawn of stored plans: both ends' history and forecast, and the load of either with plans done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pandas as pd

from foreshard.control.engine import ControlDatabase
from foreshard.control.forecast_picture import read_picture
from foreshard.control.forecast_store import ForecastStore
from foreshard.control.plan_store import PlanRecord, PlanStore
from foreshard.control.what_if import what_if
from foreshard.errors import ForeshardError, NotFound
from foreshard.forecast.band import Floats
from foreshard.forecast.series import SeriesKey
from foreshard.forecast_plot import ForecastPicture, Relieved
from foreshard.plan_plot import EndPicture, PlanPicture
from foreshard.planning.plan import Effect, MigrationPlan
from foreshard.planning.policy import DecisionPolicy
from foreshard.settings import Settings


def plan_picture(
    control: ControlDatabase, settings: Settings, record: PlanRecord, *, forecast_again: bool = False
) -> PlanPicture | None:
    """In the resource that the plan is about; None where the forecast or load that it was made on is no
    longer kept.

    The load with the plan done: with ``forecast_again`` both ends are forecast under either placement, and the
    difference is put on the stored forecast, which takes seconds. Else, and where that cannot be done, it is what the
    plan's own numbers mean: the source keeps as large a part of its load as of its predicted peak, the rest comes to
    the target.
    """
    made = PlanStore(control).decision(record.decision_id)
    forecast = ForecastStore(control).get(made.forecast_run_id)
    plan, metric = record.plan, metric_of(record.plan)
    read: dict[str, ForecastPicture] = {}
    for shard in (plan.source, plan.target):
        result = ForecastStore(control).result(forecast.id, SeriesKey(shard, None, metric))
        if result is not None:
            with suppress(NotFound):
                read[shard] = read_picture(control, settings, forecast, result)
    if len(read) < 2 or any(one.capacity is None for one in read.values()):
        return None
    level = float(made.policy.get("predicted_quantile", DecisionPolicy().predicted_quantile))
    then = _by_the_plan(plan, metric, {shard: one.result.band.at(level) for shard, one in read.items()})
    if forecast_again:
        then |= _forecast_again(control, settings, plan, metric, level, read)
    limits = {one.shard: one.limit for one in plan.effects if one.metric == metric}
    source, target = (
        EndPicture(shard, one.history, one.result.band, then[shard], one.capacity or 1.0, limits[shard])
        for shard, one in read.items()
    )
    return PlanPicture(plan, metric, source, target, forecast.step, level, settings.clock.timezone)


def relieved(picture: ForecastPicture, plans: Sequence[PlanRecord]) -> ForecastPicture:
    """The picture of a shard's forecast, with its load when those of ``plans`` that relieve the shard are done.

    By the plans' own numbers, as in `plan_picture`: each leaves as large a part of the load as of its predicted peak.
    """
    key, band = picture.result.key, picture.result.band
    values, does = band.at(picture.level), []
    for one in plans:
        if one.plan.source == key.shard and any(
            effect.metric == key.metric for effect in _at_source(one.plan)
        ):
            values = values * _kept(one.plan, key.metric)
            does.append(one)
    if not does:
        return picture
    done_at = max(one.plan.timeline.ends_at for one in does)
    return replace(picture, relieved=Relieved(tuple(one.id for one in does), values, done_at))


def metric_of(plan: MigrationPlan) -> str:
    """The resource that the plan is about: on its source the one that was closest to its limit."""
    return max(_at_source(plan), key=lambda one: one.peak_before / one.limit).metric


def _by_the_plan(plan: MigrationPlan, metric: str, load: Mapping[str, Floats]) -> dict[str, Floats]:
    moved = load[plan.source] * (1.0 - _kept(plan, metric))
    return {plan.source: load[plan.source] - moved, plan.target: load[plan.target] + moved}


def _kept(plan: MigrationPlan, metric: str) -> float:
    """The share of its load that the source keeps."""
    (effect,) = [one for one in _at_source(plan) if one.metric == metric]
    return min(1.0, effect.peak_after / effect.peak_before) if effect.peak_before > 0 else 1.0


def _forecast_again(
    control: ControlDatabase,
    settings: Settings,
    plan: MigrationPlan,
    metric: str,
    level: float,
    read: Mapping[str, ForecastPicture],
) -> dict[str, Floats]:
    """Of those ends whose whole forecast could be made again."""
    try:
        found = what_if(control, settings, dict.fromkeys(plan.buckets, plan.target))
    except ForeshardError:  # the buckets are there already, or no fit is kept
        return {}
    then = {}
    for one in found:
        if one.metric != metric or one.shard not in read:
            continue
        band = read[one.shard].result.band
        change = pd.Series(one.then.band.at(level) - one.present.band.at(level), index=one.then.band.ts)
        # A forecast of now begins later than the stored one: what is over by now does not change any more.
        aligned = change.reindex(band.ts).bfill().ffill().to_numpy(float)
        if np.isfinite(aligned).all():
            then[one.shard] = np.maximum(band.at(level) + aligned, 0.0)
    return then


def _at_source(plan: MigrationPlan) -> list[Effect]:
    return [one for one in plan.effects if one.shard == plan.source]
