"""Puts together what the pure rooms need: series for the forecast, the fleet's present for the planner."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd

from foreshard.clock import FleetClock
from foreshard.control.engine import ControlDatabase
from foreshard.control.forecast_store import ForecastRecord, ForecastStore
from foreshard.control.load_store import LoadStore
from foreshard.control.migration_store import MigrationStore
from foreshard.control.rate_store import RateStore
from foreshard.control.topology_store import TopologyStore
from foreshard.errors import NotFound
from foreshard.forecast.activity import Activity
from foreshard.forecast.apportionment import Apportionment, apportion
from foreshard.forecast.rebuild import rebuild_shard_history
from foreshard.forecast.series import Series, SeriesKey
from foreshard.planning.view import BucketView, FleetView, ShardView

ACTIVITY = "queries_per_s"
"""The metric of buckets that is forecast."""

ACTIVITIES = (ACTIVITY, "rows_read_per_s", "rows_written_per_s")
"""What is measured per bucket, and by which the shards' other metrics are apportioned. A history may lack some."""

NOT_OF_BUCKETS = frozenset({"memory_bytes"})
"""Metrics that do not follow activity from hour to hour: taken as the shard's own."""


@dataclass(frozen=True)
class ForecastInput:
    """All series to forecast, from ``since`` to ``starts_at``, and how many live samples are in them."""

    series: tuple[Series, ...]
    since: datetime
    starts_at: datetime
    live_samples: int


def forecast_input(control: ControlDatabase, now: datetime, history: timedelta) -> ForecastInput:
    """Buckets' activity, and every shard's metrics rebuilt under the present placement.

    The forecast starts with the next full hour, so that what was measured in this one is learnt from.

    Raises:
        NotFound: there is no load to learn from.
    """
    starts_at = pd.Timestamp(now).ceil("h").to_pydatetime()
    since = starts_at - history
    topology, loads = TopologyStore(control), LoadStore(control)
    placement = topology.placement()
    activity = loads.bucket_series(ACTIVITY, since, starts_at)
    if not activity:
        raise NotFound(
            "There is no load of any bucket yet.", remedy="Run the collect flow, or import a history."
        )
    series = [
        Series(SeriesKey(None, bucket, ACTIVITY), values) for bucket, values in sorted(activity.items())
    ]
    parts = apportionments(control, now, history)
    for metric in sorted({metric for shard in topology.shards() for metric in shard.load_capacity}):
        if metric == ACTIVITY:
            keys = [SeriesKey(shard.name, None, metric) for shard in topology.shards()]
            series += [rebuild_shard_history(key, activity, placement) for key in keys]
        elif metric in NOT_OF_BUCKETS:
            measured = loads.shard_series(metric, since, starts_at)
            series += [Series(SeriesKey(shard, None, metric), values) for shard, values in measured.items()]
        else:
            series += parts[metric].histories(placement)
    return ForecastInput(tuple(series), since, starts_at, loads.count_live(since, starts_at))


def apportionments(control: ControlDatabase, now: datetime, history: timedelta) -> dict[str, Apportionment]:
    """By metric, the capacities' loads that follow activity, apportioned to the buckets."""
    until = pd.Timestamp(now).ceil("h").to_pydatetime()
    since = until - history
    loads = LoadStore(control)
    metrics = {metric for shard in TopologyStore(control).shards() for metric in shard.load_capacity}
    activity = Activity.of({kind: loads.bucket_series_by_shard(kind, since, until) for kind in ACTIVITIES})
    return {
        metric: apportion(metric, loads.shard_series(metric, since, until), activity)
        for metric in sorted(metrics - NOT_OF_BUCKETS - {ACTIVITY})
    }


def fleet_view(control: ControlDatabase, clock: FleetClock, run: ForecastRecord) -> FleetView:
    """The fleet now and as forecast by ``run``. What was not measured lately stands at its forecast's start.

    Raises:
        NotFound: a shard or bucket has no forecast in that run.
    """
    now = clock.now()
    topology = TopologyStore(control)
    placement = topology.placement()
    bands = {key: result.band for key, result in ForecastStore(control).results(run.id).items()}
    present = LoadStore(control).present(now)
    sizes = LoadStore(control).sizes()
    live = MigrationStore(control).live()
    known = topology.shards()
    shards = []
    for shard in known:
        of_shard = {
            m: bands[SeriesKey(shard.name, None, m)]
            for m in shard.load_capacity
            if SeriesKey(shard.name, None, m) in bands
        }
        missing = set(shard.load_capacity) - of_shard.keys()
        if missing:
            raise NotFound(
                f"{shard.name} has no forecast of {', '.join(sorted(missing))}.",
                remedy="Run collect, then forecast.",
            )
        measured = present.shards.get(shard.name, {})
        current = {metric: measured.get(metric, float(band.at(0.5)[0])) for metric, band in of_shard.items()}
        shards.append(ShardView(shard.name, shard.load_capacity, current, of_shard))
    buckets = []
    for row in topology.buckets():
        band = bands.get(SeriesKey(None, row.name, ACTIVITY))
        if band is None:
            raise NotFound(f"Bucket {row.name} has no forecast.", remedy="Run collect, then forecast.")
        moved = None if row.last_moved_at is None else clock.from_real(row.last_moved_at)
        load = present.buckets.get(row.name, {ACTIVITY: float(band.at(0.5)[0])})
        buckets.append(
            BucketView(row.name, placement.shard_of(row.name), sizes.get(row.name, 0), load, band, moved)
        )
    return FleetView(
        now,
        tuple(shards),
        tuple(buckets),
        busy_shards=frozenset(name for one in live for name in (one.source, one.target)),
        moving=frozenset(bucket for one in live for bucket in one.buckets),
        draining=frozenset(shard.name for shard in known if shard.draining),
        rates=RateStore(control).learnt(),
    )
