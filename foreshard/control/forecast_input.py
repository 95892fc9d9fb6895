"""What the forecast learns from: all load on one grid, and every shard's rebuilt under the present placement."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from foreshard.control.calendar_store import CalendarStore
from foreshard.control.engine import ControlDatabase
from foreshard.control.load_grid import load_grid
from foreshard.control.load_levels import EPOCH, HOURS
from foreshard.control.load_store import LoadStore
from foreshard.control.topology_store import TopologyStore
from foreshard.errors import InvalidInput, NotFound
from foreshard.forecast.activity import Activity, Counts, Values
from foreshard.forecast.apportionment import apportion
from foreshard.forecast.panel import Panel
from foreshard.forecast.rebuild import FleetLoad
from foreshard.forecast.series import SeriesKey
from foreshard.load.metric import ACTIVITIES, ACTIVITY

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
FINE_HISTORY = timedelta(days=14)
"""As much is learnt from of steps below an hour, of which there are many, and which are not kept for long."""

UTC = ZoneInfo("UTC")

NOT_OF_BUCKETS = frozenset({"memory_bytes"})
"""Metrics that do not follow activity from hour to hour: taken as the shard's own."""


@dataclass(frozen=True)
class ForecastInput:
    """All series to forecast, from ``since`` to ``starts_at``, and how many live samples are in them.

    ``load``: what the panel's shards were rebuilt from, under any other placement too.
    """

    panel: Panel
    load: FleetLoad
    since: datetime
    starts_at: datetime
    live_samples: int


def forecast_input(
    control: ControlDatabase,
    now: datetime,
    history: timedelta,
    *,
    horizon: timedelta = DAY,
    step: timedelta = HOUR,
    metrics: Collection[str] | None = None,
    timezone: ZoneInfo = UTC,
) -> ForecastInput:
    """The fleet's buckets by name in what they do, then every shard in all ``metrics`` under the present placement.

    The forecast starts with the next whole ``step``, so that what was measured in this one is learnt from. What was
    never measured is a row of gaps. ``metrics``: only those, None for `ACTIVITY` and all that shards have a capacity
    of. ``horizon``: events up to its end are in the panel.

    Raises:
        NotFound: there is no load to learn from.
        InvalidInput: a ``step`` that is not kept, a metric that nothing is known of.
    """
    counted, load = _read(control, now, history, step, metrics, timezone, horizon)
    if not counted:
        raise NotFound(
            "There is no load of any bucket yet.", remedy="Run the collect flow, or import a history."
        )
    topology = TopologyStore(control)
    placement, shards = topology.placement(), [shard.name for shard in topology.shards()]
    asked = [metric for metric in load.metrics if metrics is None or metric in metrics]
    panel = load.shard_panel(placement, shards, asked)
    if ACTIVITY in asked:
        buckets = sorted(placement.of)
        keys = (*(SeriesKey(None, bucket, ACTIVITY) for bucket in buckets), *panel.keys)
        panel = replace(
            panel,
            keys=keys,
            values=np.concatenate([_of_buckets(counted, buckets, panel.steps), panel.values]),
        )
    live = LoadStore(control).count_live(HOURS.start(panel.starts_at), panel.ends_at)
    return ForecastInput(panel, load, panel.starts_at, panel.ends_at, live)


def fleet_load(
    control: ControlDatabase,
    now: datetime,
    history: timedelta,
    *,
    horizon: timedelta = DAY,
    step: timedelta = HOUR,
    metrics: Collection[str] | None = None,
    timezone: ZoneInfo = UTC,
) -> FleetLoad:
    """What `forecast_input` makes its panel from, for other placements; it may be of a fleet without any load."""
    return _read(control, now, history, step, metrics, timezone, horizon)[1]


def _read(
    control: ControlDatabase,
    now: datetime,
    history: timedelta,
    step: timedelta,
    metrics: Collection[str] | None,
    timezone: ZoneInfo,
    horizon: timedelta,
) -> tuple[Mapping[str, Counts], FleetLoad]:
    """`ACTIVITY` by shard as it was counted, faults and all, and what is made of it; the rest of the grid is let go."""
    until = EPOCH - (EPOCH - now) // step * step  # rounded up
    since = until - (min(history, FINE_HISTORY) if step < HOUR else history) // step * step
    of_shards = _of_shards(control, metrics)
    apportioned = [metric for metric in of_shards if metric not in NOT_OF_BUCKETS]
    grid = load_grid(control, ACTIVITIES if apportioned else [ACTIVITY], of_shards, since, until, step)
    activity = Activity.of(grid.buckets)
    load = FleetLoad(
        activity,
        {metric: apportion(metric, grid.shards[metric], activity) for metric in apportioned},
        {metric: grid.shards[metric] for metric in of_shards if metric in NOT_OF_BUCKETS},
        grid.since,
        step,
        grid.windows,
        timezone,
        CalendarStore(control).events(timezone, grid.since, until + horizon),
    )
    return grid.buckets[ACTIVITY], load


def _of_shards(control: ControlDatabase, metrics: Collection[str] | None) -> list[str]:
    """By name, the metrics to be read of shards, whose sum over the buckets `ACTIVITY` is."""
    limited = {metric for shard in TopologyStore(control).shards() for metric in shard.load_capacity}
    if metrics is None:
        return sorted(limited - {ACTIVITY})
    known = limited | {ACTIVITY, *LoadStore(control).known().metrics}
    if unknown := sorted(set(metrics) - known):
        raise InvalidInput(
            "metrics",
            f"nothing is known of {', '.join(unknown)}.",
            remedy=f"Known are {', '.join(sorted(known))}.",
        )
    return sorted(set(metrics) - {ACTIVITY})


def _of_buckets(counted: Mapping[str, Counts], buckets: Sequence[str], windows: int) -> Values:
    """What each did wherever it was, as it was counted; shape (buckets, windows)."""
    found = np.full((len(buckets), windows), np.nan, np.float32)
    row = {bucket: at for at, bucket in enumerate(buckets)}
    for counts in counted.values():
        ours = [at for at, bucket in enumerate(counts.buckets) if bucket in row]
        rows = [row[counts.buckets[at]] for at in ours]
        before, here = found[rows], counts.values[ours]
        found[rows] = np.where(np.isnan(before), here, before + np.nan_to_num(here))
    return found
