"""What buckets did, window by window and shard by shard, in all kinds that were counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from foreshard.forecast.attribution import plausible

SeriesByBucket = Mapping[str, "pd.Series[float]"]
Counted = Mapping[str, Mapping[str, SeriesByBucket]]
"""Kind of activity -> shard -> bucket -> series. The first kind is the one that every history has."""

FramesByShard = Mapping[str, Mapping[str, pd.DataFrame]]


@dataclass(frozen=True, eq=False)
class Activity:
    """Frames of windows × kinds, with a value or a gap for all kinds alike.

    ``on``: by shard and bucket, while the bucket was there. ``everywhere``: by bucket, over all shards.
    """

    on: FramesByShard
    everywhere: Mapping[str, pd.DataFrame]

    @classmethod
    def of(cls, counted: Counted) -> Activity:
        """From series as they were counted.

        The first kind says when a bucket was known. Where another kind is missing, as in an imported history, the
        bucket's own mix of other times stands for it, or the fleet's if it was never seen; a kind that nobody has
        is left out. Windows with absurd values are gaps.
        """
        first, *others = counted
        on = {
            shard: _without_faults(
                {
                    bucket: pd.DataFrame(
                        {kind: counted[kind].get(shard, {}).get(bucket, _NOTHING) for kind in counted},
                        index=values.index,
                    )
                    for bucket, values in buckets.items()
                }
            )
            for shard, buckets in counted[first].items()
        }
        for kind in others:
            mix, common = _mix(on, first, kind)
            for buckets in on.values():
                for bucket, frame in buckets.items():
                    if common is None:
                        del frame[kind]
                    else:
                        frame[kind] = frame[kind].fillna(frame[first] * mix.get(bucket, common))
                        frame.loc[frame[first].isna(), kind] = np.nan
        return cls(on, {bucket: _summed(frames) for bucket, frames in _by_bucket(on).items()})

    def seen_from(self, shard: str, index: pd.Index[Any]) -> dict[str, pd.DataFrame]:
        """Every bucket that was ever on ``shard``, at the windows of ``index``: 0 while it was known elsewhere."""
        seen = {}
        for bucket, frame in self.on.get(shard, {}).items():
            here = frame.reindex(index)
            elsewhere = here.isna() & self.everywhere[bucket].reindex(index).notna()
            seen[bucket] = here.mask(elsewhere, 0.0)
        return seen


_NOTHING: pd.Series[float] = pd.Series(dtype=float, index=pd.DatetimeIndex([], tz="UTC"))


def _without_faults(buckets: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Windows in which a kind's sum over the shard is absurd are gaps in that kind, of every bucket."""
    if not buckets:
        return {}
    total = _summed(list(buckets.values()))
    fine = total.apply(lambda sums: pd.Series(plausible(sums.to_numpy(float)), index=sums.index))
    return {
        bucket: frame.where((frame >= 0) & fine.reindex(frame.index)) for bucket, frame in buckets.items()
    }


def _mix(on: FramesByShard, first: str, kind: str) -> tuple[dict[str, float], float | None]:
    """How much of ``kind`` goes with one of ``first``, by bucket, and over all of them; None if it was never seen."""
    mix, counted, of_first = {}, 0.0, 0.0
    seen = False
    for bucket, frames in _by_bucket(on).items():
        known = pd.concat(frames)[[first, kind]].dropna()
        seen |= not known.empty
        if known[first].sum() > 0:
            mix[bucket] = float(known[kind].sum() / known[first].sum())
            counted, of_first = counted + known[kind].sum(), of_first + known[first].sum()
    return mix, (counted / of_first if of_first else 0.0) if seen else None


def _by_bucket(on: FramesByShard) -> dict[str, list[pd.DataFrame]]:
    found: dict[str, list[pd.DataFrame]] = {}
    for buckets in on.values():
        for bucket, frame in buckets.items():
            found.setdefault(bucket, []).append(frame)
    return found


def _summed(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Window by window; a gap only where none of them has a value. While a bucket moves both shards count it."""
    return pd.concat(frames).groupby(level=0).sum(min_count=1)
