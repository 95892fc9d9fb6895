"""Rebuild a shard's history as if its buckets had always lain where they lie now.

A shard's own history tells of old placements; the sum of its present buckets does not.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from foreshard.errors import InvalidInput
from foreshard.forecast.series import Series, SeriesKey
from foreshard.topology.placement import Placement


def rebuild_shard_history(
    key: SeriesKey,
    buckets: Mapping[str, pd.Series[float]],
    placement: Placement,
    own: pd.Series[float] | None = None,
) -> Series:
    """The shard's history under ``placement``: the sum of its buckets plus its ``own`` part.

    ``key`` is the shard's series; ``buckets`` holds for each bucket its part of ``key.metric`` (for CPU or
    I/O its activity times its cost). An hour that any of them does not know is a gap, not zero. ``own`` may be
    negative where its buckets cost less than they commonly do; the sum never is.

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
    return Series(key, table.sum(axis=1, skipna=False).clip(lower=0.0))
