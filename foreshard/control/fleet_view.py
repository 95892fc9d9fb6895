"""The fleet's present and its forecast, put together for the planner."""

from __future__ import annotations

from foreshard.clock import FleetClock
from foreshard.control.engine import ControlDatabase
from foreshard.control.forecast_input import ACTIVITY
from foreshard.control.forecast_store import ForecastRecord, ForecastStore
from foreshard.control.load_store import LoadStore
from foreshard.control.migration_store import MigrationStore
from foreshard.control.rate_store import RateStore
from foreshard.control.topology_store import TopologyStore
from foreshard.errors import NotFound
from foreshard.forecast.series import SeriesKey
from foreshard.planning.view import BucketView, FleetView, ShardView


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
