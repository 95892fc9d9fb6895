"""Forecasts of shards as if buckets lay elsewhere: what a plan would change, before anything is moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from zoneinfo import ZoneInfo

from foreshard.control.engine import ControlDatabase
from foreshard.control.forecast_input import fleet_load
from foreshard.control.forecast_store import ForecastStore
from foreshard.control.topology_store import TopologyStore
from foreshard.errors import InvalidInput, NotFound
from foreshard.forecast.forecast_options import ForecastOptions
from foreshard.forecast.forecaster import forecast
from foreshard.forecast.models.candidates import DEFAULT
from foreshard.forecast.result import ForecastResult
from foreshard.forecast.training import restored
from foreshard.settings import Settings


@dataclass(frozen=True, eq=False)
class Compared:
    """One metric of a shard, forecast alike under the present placement and under the other one."""

    shard: str
    metric: str
    capacity: float
    present: ForecastResult
    then: ForecastResult


def what_if(control: ControlDatabase, settings: Settings, moves: Mapping[str, str]) -> list[Compared]:
    """Every shard that gains or loses a bucket by ``moves`` (bucket -> shard), in each metric it has a capacity of.

    Histories are rebuilt under both placements and forecast by the newest kept fits, with no new one: seconds, also of
    a large fleet. Nothing is changed or stored.

    Raises:
        InvalidInput: ``moves`` that name no bucket or shard of the fleet, or move nothing.
        NotFound: no forecast has been made yet.
    """
    topology = TopologyStore(control)
    placement = topology.placement()
    shards = {shard.name: shard for shard in topology.shards()}
    for bucket, shard in moves.items():
        if bucket not in placement.of:
            raise InvalidInput("moves", f"there is no bucket {bucket!r}")
        if shard not in shards:
            raise InvalidInput(
                "moves", f"there is no shard {shard!r}.", remedy=f"Shards: {', '.join(shards)}."
            )
    other = placement
    for bucket, shard in moves.items():
        other = other.moved([bucket], shard)
    changed = sorted(
        {
            name
            for bucket in moves
            for name in (placement.of[bucket], other.of[bucket])
            if placement.of[bucket] != other.of[bucket]
        }
    )
    if not changed:
        raise InvalidInput("moves", "leave every bucket where it is")
    of = settings.forecast
    step, horizon = timedelta(minutes=of.step_minutes), timedelta(hours=of.horizon_hours)
    kept = ForecastStore(control).kept(step)
    if not kept:
        raise NotFound("No forecast has been made yet.", remedy="Run collect, then forecast.")
    load = fleet_load(
        control,
        settings.clock.fleet_clock().now(),
        timedelta(days=of.history_days),
        horizon=horizon,
        step=step,
        timezone=ZoneInfo(settings.clock.timezone),
    )
    metrics = sorted(
        {metric for name in changed for metric in shards[name].load_capacity} & set(load.metrics)
    )
    options = ForecastOptions(horizon // step, of.models or DEFAULT)
    trained = restored({name: fit.payload for name, fit in kept.items()})
    before, after = (
        {one.key: one for one in forecast(trained, load.shard_panel(where, changed, metrics), options)}
        for where in (placement, other)
    )
    return [
        Compared(key.shard, key.metric, shards[key.shard].load_capacity[key.metric], before[key], one)
        for key, one in after.items()
        if key.shard is not None and key.metric in shards[key.shard].load_capacity
    ]
