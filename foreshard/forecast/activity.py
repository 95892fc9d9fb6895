"""What buckets did, window by window and shard by shard, in all kinds that were counted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foreshard.forecast.attribution import plausible

Values = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Counts:
    """One kind of activity on one shard: ``values`` of shape (buckets, windows), NaN where nothing was counted."""

    buckets: tuple[str, ...]
    values: Values


Counted = Mapping[str, Mapping[str, Counts]]
"""Kind of activity -> shard -> counts, all of the same windows. The first kind is the one that every history has."""


@dataclass(frozen=True, eq=False)
class OnShard:
    """The buckets that were ever on a shard: their ``rows`` in `Activity.buckets`, and what they did there.

    ``values``: shape (buckets, kinds, windows). A bucket lies on one shard or on few, so that all of these together
    are hardly larger than one array of all buckets.
    """

    rows: Rows
    values: Values


@dataclass(frozen=True, eq=False)
class Activity:
    """Activity of ``buckets`` in ``kinds``; where one kind is a gap all of them are.

    ``on``: by shard, while the bucket was there. ``everywhere``: shape (buckets, kinds, windows), over all shards.
    """

    buckets: tuple[str, ...]
    kinds: tuple[str, ...]
    on: Mapping[str, OnShard]
    everywhere: Values

    @classmethod
    def of(cls, counted: Counted) -> Activity:
        """From what was counted.

        The first kind says when a bucket was known. Where another kind is missing, as in an imported history, the
        bucket's own mix of other times stands for it, or the fleet's if it was never seen; a kind that nobody has
        is left out. Windows with absurd values are gaps.
        """
        first, *others = counted
        buckets = tuple(sorted({name for counts in counted[first].values() for name in counts.buckets}))
        number = {name: row for row, name in enumerate(buckets)}
        on = {}
        for shard, counts in counted[first].items():
            values = np.full((len(counts.buckets), len(counted), counts.values.shape[1]), np.nan, np.float32)
            values[:, 0] = counts.values
            for kind, name in enumerate(others, start=1):
                _put(values[:, kind], counts.buckets, counted[name].get(shard))
            _drop_faults(values)
            on[shard] = OnShard(np.array([number[name] for name in counts.buckets], np.intp), values)
        seen = [0, *(kind for kind in range(1, len(counted)) if _fill(on.values(), kind, len(buckets)))]
        if len(seen) < len(counted):
            on = {shard: OnShard(one.rows, one.values[:, seen]) for shard, one in on.items()}
        kinds = tuple(np.array(list(counted))[seen].tolist())
        return cls(buckets, kinds, on, _everywhere(on, len(buckets), len(kinds)))

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Shape (buckets, windows): where something is known."""
        known: npt.NDArray[np.bool_] = ~np.isnan(self.everywhere[:, 0])
        return known

    def seen_from(self, shard: str) -> OnShard:
        """Every bucket that was ever on ``shard``: 0 in windows in which it was known elsewhere only."""
        here = self.on.get(shard)
        if here is None:
            return OnShard(np.empty(0, np.intp), np.empty((0, len(self.kinds), 0), np.float32))
        elsewhere = np.isnan(here.values) & ~np.isnan(self.everywhere[here.rows])
        return OnShard(here.rows, np.where(elsewhere, np.float32(0), here.values))


def _put(into: Values, buckets: Sequence[str], counts: Counts | None) -> None:
    """The counts of those ``buckets`` that there are any of."""
    if counts is None:
        return
    if counts.buckets == tuple(buckets):
        into[:] = counts.values
        return
    row = {name: at for at, name in enumerate(counts.buckets)}
    for at, name in enumerate(buckets):
        if name in row:
            into[at] = counts.values[row[name]]


def _drop_faults(values: Values) -> None:
    """Windows in which a kind's sum over the shard is absurd are gaps in that kind, of every bucket."""
    for kind in range(values.shape[1]):
        of = values[:, kind]
        known = ~np.isnan(of)
        total = np.where(known, of, 0).sum(axis=0, dtype=np.float64)
        fine = plausible(np.where(known.any(axis=0), total, np.nan))
        of[~(of >= 0) | ~fine] = np.nan


def _fill(on: Collection[OnShard], kind: int, buckets: int) -> bool:
    """Fill the gaps of ``kind`` by how much of it goes with one of the first; False if nobody ever had any of it."""
    of_kind, of_first = np.zeros(buckets), np.zeros(buckets)
    seen = False
    for one in on:
        both = ~np.isnan(one.values[:, 0]) & ~np.isnan(one.values[:, kind])
        seen |= bool(both.any())
        for sums, at in ((of_first, 0), (of_kind, kind)):
            sums[one.rows] += np.where(both, one.values[:, at], 0).sum(axis=1, dtype=np.float64)
    if not seen:
        return False
    active = of_first > 0
    common = of_kind[active].sum() / of_first[active].sum() if active.any() else 0.0
    mix = np.divide(of_kind, of_first, out=np.full(buckets, common), where=active)
    for one in on:
        first, values = one.values[:, 0], one.values[:, kind]
        np.copyto(values, (first * mix[one.rows, None]).astype(np.float32), where=np.isnan(values))
        values[np.isnan(first)] = np.nan
    return True


def _everywhere(on: Mapping[str, OnShard], buckets: int, kinds: int) -> Values:
    """The sum over the shards; a gap only where none of them has a value. While a bucket moves both shards count it."""
    windows = next((one.values.shape[2] for one in on.values()), 0)
    found = np.full((buckets, kinds, windows), np.nan, np.float32)
    for one in on.values():
        before = found[one.rows]
        both = np.where(np.isnan(one.values), before, before + one.values)
        found[one.rows] = np.where(np.isnan(before), one.values, both)
    return found
