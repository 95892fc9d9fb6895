"""A series as it is shown: its values, and the gaps between them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

import numpy as np
import pandas as pd

from foreshard.quantities import BYTES, size

CELLS = "▁▂▃▄▅▆▇█"
NOTHING = "·"


@dataclass(frozen=True)
class ShownSeries:
    """Values of ``metric`` of a shard or a bucket, in the order of time, from ``since`` to ``until``.

    ``step``: the length of a mean, whose time is its beginning; None for samples, whose time is the end of what they
    are of.
    """

    name: str
    metric: str
    values: pd.Series[float]
    since: datetime
    until: datetime
    step: timedelta | None
    capacity: float | None = None

    @property
    def times(self) -> list[datetime]:
        """The values' times."""
        return [pd.Timestamp(one).to_pydatetime() for one in pd.DatetimeIndex(self.values.index)]

    @property
    def points(self) -> list[tuple[datetime, float]]:
        """Times and values."""
        return list(zip(self.times, self.values.tolist(), strict=True))

    @property
    def expected(self) -> timedelta | None:
        """How far apart values are where nothing is missing; None if there are too few to tell."""
        if self.step is not None:
            return self.step
        apart = [(late - early).total_seconds() for early, late in pairwise(self.times)]
        return None if not apart else timedelta(seconds=float(np.median(apart)))

    @property
    def gaps(self) -> list[tuple[datetime, datetime]]:
        """From when to when nothing was measured, ends of the span included."""
        expected, times = self.expected, self.times
        if expected is None or not times:
            return [(self.since, self.until)] if not times else []
        reach = self.step or timedelta(0)  # a mean is of the time after its own
        ends = [
            (self.since, times[0]),
            *((a + reach, b) for a, b in pairwise(times)),
            (times[-1] + reach, self.until),
        ]
        longest = 0.5 * expected if self.step else 1.5 * expected
        inner = range(1, len(ends) - 1)
        return [
            (begin, end)
            for at, (begin, end) in enumerate(ends)
            if end - begin > (longest if at in inner else 1.5 * expected)
        ]

    @property
    def top(self) -> float:
        """The largest value, or the capacity if that is larger."""
        return max([float(self.values.max()) if len(self.values) else 0.0, self.capacity or 0.0])

    def cells(self, width: int) -> list[float]:
        """The largest value in each of ``width`` equal parts of the span; NaN where there is none."""
        found = np.full(width, np.nan)
        span = (self.until - self.since).total_seconds()
        length = (self.expected or timedelta(0)).total_seconds() / span * width
        for ts, value in self.points:
            at = (ts - self.since).total_seconds() / span * width
            begin, end = (at - length, at) if self.step is None else (at, at + length)
            first = min(max(int(begin), 0), width - 1)
            last = min(max(int(np.ceil(end)) - 1, first), width - 1)
            found[first : last + 1] = np.fmax(found[first : last + 1], value)
        return [float(one) for one in found]

    def sparkline(self, width: int) -> str:
        """One character for each part of the span, from nothing to `top`; a dot where there is a gap."""
        top = self.top or 1.0
        return "".join(
            NOTHING if np.isnan(one) else CELLS[min(int(one / top * len(CELLS)), len(CELLS) - 1)]
            for one in self.cells(width)
        )


def unit_of(metric: str) -> str:
    """``bytes``, ``bytes/s``, ``cores``, ``queries/s``, ``s``: what the metric's name says."""
    if metric.endswith("_per_s"):
        what = metric.removesuffix("_per_s")
        return f"{BYTES if what.endswith('bytes') else what.replace('_', ' ')}/s"
    return metric.rsplit("_", 1)[-1]


def with_unit(value: float, metric: str) -> str:
    """``12.3 MB/s``, ``0.52 cores``."""
    unit = unit_of(metric)
    if unit.startswith(BYTES):
        return size(value) + unit.removeprefix(BYTES)
    return f"{value:,.4g} {unit}" if value < 1000 else f"{value:,.0f} {unit}"
