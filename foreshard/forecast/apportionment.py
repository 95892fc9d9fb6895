"""A metric that is measured for whole shards only, apportioned to the fleet's buckets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from foreshard.forecast.activity import Activity, Rows, Values
from foreshard.forecast.attribution import Attribution, Fit, attribute, plausible
from foreshard.forecast.least_squares import Floats

AT_ONCE = 256
"""Buckets that are summed in one product: a fleet of one shard must not need all of them in double precision."""


@dataclass(frozen=True, eq=False)
class Apportionment:
    """``cost`` of the buckets' activity, shape (buckets, kinds). ``own``: what is left of each shard's load.

    A bucket's part, `part`, is its activity times its cost, at all times and wherever it was; all is in the metric's
    unit. Under the placements that were, parts and own part give the load as it was measured, to the last digit:
    what a bucket costs more or less than commonly is in ``own``. ``since``: the first window in which a shard's load
    was known; a shard whose load never was is not in it.
    """

    metric: str
    activity: Activity
    cost: Floats
    own: Mapping[str, Floats]
    fits: Mapping[str, Fit]
    since: Mapping[str, int]

    def part(self, row: int) -> Floats:
        """Of the bucket at ``row`` of the activity, shape (windows,); gaps stay gaps."""
        made: Floats = work(self.activity.everywhere[row : row + 1], self.cost[row : row + 1, :, None])[0]
        return made


def apportion(metric: str, loads: Mapping[str, Floats], activity: Activity) -> Apportionment:
    """Divide each shard's ``metric`` (``loads``, shape (windows,), as measured) among the buckets that were there.

    A bucket costs what it cost where it was longest, and takes that along when it moves; one that never lay on a
    shard whose load was measured costs what the others do on average. Shards are taken to be equally fast.
    """
    loads = {shard: np.where(plausible(load), load, np.nan) for shard, load in loads.items()}
    found = {shard: attribute(load, activity.seen_from(shard).values) for shard, load in loads.items()}
    cost = _costs(found, activity)
    own = {}
    for shard, load in loads.items():
        seen = activity.seen_from(shard)
        own[shard] = load - work(seen.values, cost[seen.rows][:, :, None])[0] if len(seen.rows) else load
    fits = {shard: one.fit for shard, one in found.items()}
    since = {
        shard: int(np.argmax(~np.isnan(load))) for shard, load in loads.items() if not np.isnan(load).all()
    }
    return Apportionment(metric, activity, cost, own, fits, since)


def work(values: Values, cost: Floats) -> Floats:
    """What buckets with ``values`` (buckets, kinds, windows) make together at ``cost`` (buckets, kinds, metrics).

    Shape (metrics, windows); a window in which one of them has a gap is a gap.
    """
    windows = values.shape[2]
    made = np.zeros((cost.shape[2], windows))
    for first in range(0, len(values), AT_ONCE):
        some = values[first : first + AT_ONCE].reshape(-1, windows).astype(np.float64)
        gaps = np.isnan(some).any(axis=0)
        some[:, gaps] = 0.0  # a cost of 0 times a gap is a gap: not left to the product
        made += cost[first : first + AT_ONCE].reshape(len(some), -1).T @ some
        made[:, gaps] = np.nan
    return made


def _costs(found: Mapping[str, Attribution], activity: Activity) -> Floats:
    longest = np.full(len(activity.buckets), -1)
    cost = np.full((len(activity.buckets), len(activity.kinds)), np.nan)
    for shard in sorted(found.keys() & activity.on.keys()):
        here, told = activity.on[shard], found[shard]
        if told.fit.windows:
            windows = np.count_nonzero(~np.isnan(here.values[:, 0]), axis=1)
            better = windows > longest[here.rows]
            rows: Rows = here.rows[better]
            longest[rows], cost[rows] = windows[better], told.cost[better]
    known = longest >= 0
    cost[~known] = cost[known].mean(axis=0) if known.any() else 0.0
    return cost
