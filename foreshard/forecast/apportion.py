"""Shard metrics that are not measured per bucket, rebuilt under another placement than they were measured under."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from foreshard.forecast.rebuild import Attribution, attribute, rebuild_shard_history
from foreshard.forecast.series import Series, SeriesKey
from foreshard.topology.placement import Placement

SeriesByBucket = Mapping[str, "pd.Series[float]"]


def rebuild_metric(
    metric: str,
    loads: SeriesByBucket,
    activity_on: Mapping[str, SeriesByBucket],
    placement: Placement,
) -> list[Series]:
    """Each shard's ``metric`` as if ``placement`` had always been.

    ``loads``: the metric by shard, as measured. ``activity_on``: by shard, the activity of the buckets while they
    were there. A bucket costs what it cost where it was longest; what its shard's buckets do not explain stays the
    shard's own. A shard without any load measured is left out.
    """
    everywhere = _everywhere(activity_on)
    explained = {shard: _explain(loads[shard], activity_on.get(shard, {}), everywhere) for shard in loads}
    cost = _costs(explained, activity_on)
    parts = {bucket: values * cost.get(bucket, 0.0) for bucket, values in everywhere.items()}
    return [
        rebuild_shard_history(SeriesKey(shard, None, metric), parts, placement, explained[shard].own)
        for shard in sorted(loads)
    ]


def _everywhere(activity_on: Mapping[str, SeriesByBucket]) -> dict[str, pd.Series[float]]:
    """Activity of every bucket wherever it was; in the hour of its move, the mean of both shards' samples."""
    pieces: dict[str, list[pd.Series[float]]] = {}
    for here in activity_on.values():
        for bucket, values in here.items():
            pieces.setdefault(bucket, []).append(values)
    return {bucket: pd.concat(parts).groupby(level=0).mean() for bucket, parts in pieces.items()}


def _explain(load: pd.Series[float], here: SeriesByBucket, everywhere: SeriesByBucket) -> Attribution:
    """While a bucket was known to be elsewhere its activity here was 0; while it was not known at all, a gap."""
    activity = {
        bucket: values.reindex(load.index).where(
            values.reindex(load.index).notna() | everywhere[bucket].reindex(load.index).isna(), 0.0
        )
        for bucket, values in here.items()
    }
    return attribute(load, activity)


def _costs(
    explained: Mapping[str, Attribution], activity_on: Mapping[str, SeriesByBucket]
) -> dict[str, float]:
    hours: dict[str, int] = {}
    cost: dict[str, float] = {}
    for shard in sorted(explained):
        for bucket, values in activity_on.get(shard, {}).items():
            if len(values) > hours.get(bucket, 0):
                hours[bucket], cost[bucket] = len(values), explained[shard].cost[bucket]
    return cost
