"""Means of samples over windows of time, right while buckets move between shards. Pure: arrays in, arrays out.

A window's value of an additive metric of bucket b on shard s is the sum of b's values there, one for each unit of
time (a minute, or a window of the step below), divided by the number of units in which b was sampled on any shard.
So the sum over shards is b's mean, whether it was handed over within the window or served by two shards at once.
A unit in which nobody sampled b counts nowhere: a gap is a gap, never zero. A shard's own value and states (bytes,
seconds) are plain means of what is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rows:
    """Values of one metric on one shard: a row per time, a column per position (0 is the shard itself), NaN gaps.

    ``ts``: microseconds since 2000-01-01 UTC, as PostgreSQL counts; rising. ``live``: values that `collect` took.
    """

    ts: Numbers
    values: Matrix
    live: Numbers

    @property
    def width(self) -> int:
        return int(self.values.shape[1])

    def where(self, chosen: NDArray[np.bool_]) -> Rows:
        """The chosen rows."""
        return Rows(self.ts[chosen], self.values[chosen], self.live[chosen])


RowsByShard = Mapping[int, Rows]


@dataclass(frozen=True)
class Windows:
    """Windows of ``step`` microseconds that begin at ``origin`` + n x ``step``, made of units of ``unit``.

    ``of_samples``: the rows below bear the end of the time that they tell of, and not its beginning.
    """

    step: int
    unit: int
    origin: int = 0
    of_samples: bool = False

    def starts(self, ts: Numbers) -> Numbers:
        """The start of the window of each row below."""
        told = self._told(ts)
        return told - (told - self.origin) % self.step

    def units(self, ts: Numbers) -> Numbers:
        """The start of the unit of each row below; one that a window's border cuts begins there."""
        told = self._told(ts)
        found: Numbers = np.maximum(told - told % self.unit, self.starts(ts))
        return found

    def of_units(self) -> Windows:
        """The same windows, of rows that stand for units: their times are beginnings."""
        return replace(self, of_samples=False)

    def _told(self, ts: Numbers) -> Numbers:
        return ts - 1 if self.of_samples else ts


Several = Mapping[int, tuple[NDArray[np.intp], NDArray[np.intp]]]
"""Of each shard its columns that hold buckets known on several shards, and the numbers of those buckets."""


def roll_up(rows: RowsByShard, windows: Windows, several: Several, *, additive: bool) -> dict[int, Rows]:
    """Means over the windows, of one metric; see the top of this file. Shards without a row are left out."""
    units = {shard: _by_unit(one, windows) for shard, one in rows.items() if len(one.ts)}
    windows = windows.of_units()
    shared = _Shared(units, windows, several) if additive and several else None
    return {shard: _by_window(shard, one, windows, shared) for shard, one in units.items()}


def overlay(below: Rows, above: Rows) -> Rows:
    """Both in one: where ``above`` knows a value it wins."""
    ts = np.union1d(below.ts, above.ts)
    values = np.full((len(ts), max(below.width, above.width)), np.nan, np.float32)
    live = np.zeros(len(ts), np.int64)
    for one in (below, above):
        at = np.searchsorted(ts, one.ts)
        here = values[at, : one.width]
        values[at, : one.width] = np.where(np.isnan(one.values), here, one.values)
        live[at] = np.maximum(live[at], one.live)
    return Rows(ts, values, live)


class _Shared:
    """In how many units of each window a bucket that is known on several shards was sampled on any of them."""

    def __init__(self, units: RowsByShard, windows: Windows, several: Several) -> None:
        self.several = several
        here = {shard: one for shard, one in units.items() if shard in several}
        ts = np.unique(np.concatenate([one.ts for one in here.values()] or [np.empty(0, np.int64)]))
        buckets = 1 + max(int(numbers.max()) for _, numbers in several.values())
        sampled = np.zeros((len(ts), buckets), bool)
        for shard, one in here.items():
            columns, numbers = self.of(shard, one)
            sampled[np.ix_(np.searchsorted(ts, one.ts), numbers)] |= ~np.isnan(one.values[:, columns])
        self.windows, first = np.unique(windows.starts(ts), return_index=True)
        self.counts = np.add.reduceat(sampled.astype(np.int64), first, axis=0) if len(first) else sampled

    def of(self, shard: int, one: Rows) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The shard's columns that are shared, as far as it has them, and the numbers of their buckets."""
        columns, numbers = self.several[shard]
        inside = columns < one.width
        return columns[inside], numbers[inside]


def _by_unit(one: Rows, windows: Windows) -> Rows:
    """One row for each unit: the mean of its rows where there are several."""
    keys = windows.units(one.ts)
    units, first = np.unique(keys, return_index=True)
    if len(units) == len(keys):
        return Rows(units, one.values, one.live)
    means, _, live = _means(one, first)
    return Rows(units, means, live)


def _by_window(shard: int, one: Rows, windows: Windows, shared: _Shared | None) -> Rows:
    starts, first = np.unique(windows.starts(one.ts), return_index=True)
    means, counts, live = _means(one, first)
    if shared is not None and shard in shared.several:
        columns, numbers = shared.of(shard, one)
        anywhere = shared.counts[np.ix_(np.searchsorted(shared.windows, starts), numbers)]
        share = counts[:, columns] / np.maximum(anywhere, 1)
        means[:, columns] *= share.astype(np.float32)
    return Rows(starts, means, live)


def _means(one: Rows, first: NDArray[np.intp]) -> tuple[Matrix, Numbers, Numbers]:
    """Means of the groups of rows that begin at ``first``, how many values each is of, and live values."""
    known = ~np.isnan(one.values)
    counts = np.add.reduceat(known.astype(np.int64), first, axis=0)
    sums = np.add.reduceat(np.where(known, one.values, 0.0).astype(np.float64), first, axis=0)
    with np.errstate(invalid="ignore"):
        means = (sums / counts).astype(np.float32)
    return means, counts, np.add.reduceat(one.live, first)


def by_bucket(
    rows: RowsByShard, buckets: Mapping[int, NDArray[np.intp]], shape: tuple[int, Numbers], *, additive: bool
) -> Matrix:
    """A row for each bucket, a column for each time, over all shards.

    Additive values of several shards add, of states the largest counts. ``buckets``: of each shard the numbers of the
    buckets in its columns from 1 on. ``shape``: how many buckets there are, and the times.
    """
    count, times = shape
    found = np.full((count, len(times)), np.nan, np.float32)
    for shard, one in rows.items():
        here = np.ix_(buckets[shard][: one.width - 1], np.searchsorted(times, one.ts))
        new, old = one.values[:, 1:].T, found[here]
        both = old + new if additive else np.fmax(old, new)
        found[here] = np.where(np.isnan(old), new, np.where(np.isnan(new), old, both))
    return found
