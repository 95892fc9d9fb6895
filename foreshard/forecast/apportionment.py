"""A metric that is measured for whole shards only, apportioned to the fleet's buckets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from foreshard.forecast.activity import Activity, SeriesByBucket
from foreshard.forecast.attribution import Attribution, Fit, attribute, part, plausible
from foreshard.forecast.rebuild import rebuild_shard_history
from foreshard.forecast.series import Series, SeriesKey
from foreshard.topology.placement import Placement


@dataclass(frozen=True, eq=False)
class Apportionment:
    """``parts``: of every bucket, at all times and wherever it was. ``own``: what is left of each shard's load.

    Both are in the metric's unit. Under the placements that were, parts and own part give the load as it was
    measured, to the last digit: what a bucket costs more or less than commonly is in ``own``.
    """

    metric: str
    parts: SeriesByBucket
    own: Mapping[str, pd.Series[float]]
    fits: Mapping[str, Fit]

    def history(self, shard: str, placement: Placement) -> Series:
        """The shard's history as if ``placement``, real or imagined, had always been.

        Raises ``InvalidInput`` (field ``buckets``) if a bucket that lies there has no history at all.
        """
        return rebuild_shard_history(
            SeriesKey(shard, None, self.metric), self.parts, placement, self.own[shard]
        )

    def histories(self, placement: Placement) -> list[Series]:
        """Of every shard whose load was measured, by name."""
        return [self.history(shard, placement) for shard in sorted(self.own)]


def apportion(metric: str, loads: Mapping[str, pd.Series[float]], activity: Activity) -> Apportionment:
    """Divide each shard's ``metric`` (``loads``, as measured) among the buckets that were there.

    A bucket costs what it cost where it was longest, and takes that along when it moves; one that never lay on a
    shard whose load was measured costs what the others do on average. Shards are taken to be equally fast.
    """
    loads = {
        shard: load.where(plausible(np.asarray(load, dtype=np.float64))) for shard, load in loads.items()
    }
    seen = {shard: activity.seen_from(shard, loads[shard].index) for shard in loads}
    found = {shard: attribute(loads[shard], seen[shard]) for shard in loads}
    cost = _costs(found, activity)
    own = {
        shard: sum((-part(cost[bucket], frame) for bucket, frame in seen[shard].items()), start=load)
        for shard, load in loads.items()
    }
    parts = {bucket: part(cost[bucket], frame) for bucket, frame in activity.everywhere.items()}
    return Apportionment(metric, parts, own, {shard: one.fit for shard, one in found.items()})


def _costs(found: Mapping[str, Attribution], activity: Activity) -> dict[str, Mapping[str, float]]:
    longest: dict[str, int] = {}
    cost: dict[str, Mapping[str, float]] = {}
    for shard in sorted(found):
        for bucket, here in found[shard].cost.items():
            windows = len(activity.on[shard][bucket].dropna())
            if windows > longest.get(bucket, -1):
                longest[bucket], cost[bucket] = windows, here
    kinds = next((list(frame.columns) for frame in activity.everywhere.values()), [])
    mean = pd.DataFrame(list(cost.values()), columns=kinds).mean().fillna(0.0)
    common = {kind: float(mean[kind]) for kind in kinds}
    return {bucket: cost.get(bucket, common) for bucket in activity.everywhere}
