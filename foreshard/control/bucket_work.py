"""What one query of each bucket commonly takes of a resource that is measured for whole shards only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from foreshard.control.engine import ControlDatabase
from foreshard.control.forecast_input import NOT_OF_BUCKETS, fleet_load
from foreshard.forecast.activity import Values
from foreshard.forecast.apportionment import Apportionment
from foreshard.forecast.least_squares import Floats
from foreshard.load.metric import ACTIVITIES, ACTIVITY

HOUR = timedelta(hours=1)
RECENT = 7 * 24
"""Hours of which a bucket's mix of queries is taken: a week holds every hour of the day and every day."""

VALUES_AT_MOST = 10_000_000
"""The larger a fleet is the less of its past is read here, but a week: six weeks up to 3,000 buckets, two up to 10,000.
The fit takes 10 to 50 ms a shard and metric for each week."""


@dataclass(frozen=True, eq=False)
class BucketWork:
    """``per_query``: by metric, shape (buckets,), its unit per query/s; NaN where nothing is told of the bucket.

    A metric that nothing at all is told of is missing.
    """

    per_query: Mapping[str, Floats]


def bucket_work(
    control: ControlDatabase,
    now: datetime,
    buckets: Sequence[str],
    metrics: Sequence[str],
    history: timedelta,
    timezone: ZoneInfo,
) -> BucketWork:
    """By the forecast's own apportionment: recent work at each bucket's costs, over its recent queries."""
    known: dict[str, Floats] = {
        metric: np.full(len(buckets), float(metric == ACTIVITY))
        for metric in metrics
        if metric == ACTIVITY or metric in NOT_OF_BUCKETS  # the latter are the shards' own
    }
    wanted = [metric for metric in metrics if metric not in known]
    if not wanted:
        return BucketWork(known)
    hours = min(history // HOUR, max(RECENT, VALUES_AT_MOST // max(1, len(buckets) * len(ACTIVITIES))))
    load = fleet_load(control, now, hours * HOUR, metrics=wanted, timezone=timezone)
    recent = _recent(load.activity.everywhere)
    row = {name: at for at, name in enumerate(load.activity.buckets)}
    at = np.array([row.get(name, -1) for name in buckets], np.intp)
    for metric, one in load.apportioned.items():
        if any(fit.windows for fit in one.fits.values()):
            known[metric] = _per_query(one, recent, at)
    return BucketWork(known)


def _recent(values: Values) -> Floats:
    """Sums over the last week, shape (buckets, kinds)."""
    last = values[:, :, -RECENT:]
    return np.nansum(last, axis=2, dtype=np.float64)  # type: ignore[no-any-return]


def _per_query(one: Apportionment, recent: Floats, at: np.ndarray) -> Floats:
    work = (recent * one.cost).sum(axis=1)
    told = np.divide(work, recent[:, 0], out=np.full(len(work), np.nan), where=recent[:, 0] > 0)
    found: Floats = np.append(told, np.nan)[at]  # the last is where -1 leads
    return found
