"""Rebuild a shard's history as if its buckets had always lain where they lie now.

A shard's own history tells of old placements; the sum of its present buckets does not. CPU and I/O cannot be
measured per bucket and are apportioned by activity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from foreshard.errors import InvalidInput
from foreshard.forecast.series import Series, SeriesKey
from foreshard.topology.placement import Placement

_PULL = 0.01  # weight of the common cost against the data, see attribute()


@dataclass(frozen=True, eq=False)
class Attribution:
    """A shard's load explained: ``cost`` of one unit of each bucket's activity, and the shard's ``own`` rest.

    ``own`` is an hourly series in the load's unit, never below zero; where the load or an activity is a gap,
    so is ``own``.
    """

    cost: Mapping[str, float]
    own: pd.Series[float]


def attribute(load: pd.Series[float], activity: Mapping[str, pd.Series[float]]) -> Attribution:
    """Explain ``load`` as a constant plus ``cost`` times each bucket's activity, none of them negative.

    ``activity`` holds the buckets that lay on the shard while ``load`` was measured; hours with a gap in any
    of them are left out. Buckets of one shard are busy at the same hours, which lets plain least squares give
    all cost to one of them; so costs are pulled lightly towards the cost they would have if all were equal.

    Raises ``InvalidInput`` (field ``load``) if no hour is known to all.
    """
    buckets = sorted(activity)
    table = pd.DataFrame({"": load, **{bucket: activity[bucket] for bucket in buckets}}).reindex(load.index)
    known = table.dropna()
    if known.empty:
        raise InvalidInput("load", "shares no known hour with the activity of its buckets")
    total, acts = known[""].to_numpy(float), known[buckets].to_numpy(float)
    if not buckets or acts.sum() == 0:
        return Attribution(dict.fromkeys(buckets, 0.0), table[""].where(table.notna().all(axis=1)))
    pull = np.sqrt(_PULL * np.mean((acts**2).sum(axis=0)))
    common = total.sum() / acts.sum()
    count = len(buckets)
    system = np.vstack(
        [
            np.column_stack([np.ones(len(acts)), acts]),
            np.column_stack([np.zeros(count), pull * np.eye(count)]),
        ]
    )
    solution, _ = nnls(system, np.concatenate([total, np.full(count, pull * common)]))
    cost = {bucket: float(value) for bucket, value in zip(buckets, solution[1:], strict=True)}
    explained = sum((table[bucket] * cost[bucket] for bucket in buckets), start=table[""] * 0.0)
    return Attribution(cost, (table[""] - explained).clip(lower=0.0))


def rebuild_shard_history(
    key: SeriesKey,
    buckets: Mapping[str, pd.Series[float]],
    placement: Placement,
    own: pd.Series[float] | None = None,
) -> Series:
    """The shard's history under ``placement``: the sum of its buckets plus its ``own`` part.

    ``key`` is the shard's series; ``buckets`` holds for each bucket its part of ``key.metric`` (for CPU or
    I/O its activity times its cost). An hour that any of them does not know is a gap, not zero.

    Raises ``InvalidInput``: ``key`` for a bucket's key, ``buckets`` if one on the shard has no history.
    """
    if key.shard is None:
        raise InvalidInput("key", f"{key} is not a shard's series")
    here = placement.buckets_on(key.shard)
    missing = [bucket for bucket in here if bucket not in buckets]
    if missing:
        raise InvalidInput("buckets", f"no history of {', '.join(missing)} on {key.shard}")
    parts = [buckets[bucket] for bucket in here] + ([own] if own is not None else [])
    if not parts:
        # An empty shard: zero at every hour that the fleet knows.
        hours = pd.concat(list(buckets.values()), axis=1).index if buckets else pd.DatetimeIndex([], tz="UTC")
        return Series(key, pd.Series(0.0, index=hours))
    table = pd.concat(parts, axis=1).sort_index()
    return Series(key, table.sum(axis=1, skipna=False))
