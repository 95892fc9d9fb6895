"""Durations in bins that grow by a constant factor: quantiles in bounded memory. Pure."""

from __future__ import annotations

import math

RELATIVE_ERROR = 0.01
"""A quantile is at most this much off, by its own size."""

_GROWTH = math.log1p(2 * RELATIVE_ERROR)
_FLOOR_S = 1e-7
"""The log tells microseconds; 0.000 ms is somewhere below half of one."""


class Histogram:
    """How many durations fell into each bin. It has at most some 1,500 bins, for anything from 0.1 µs to weeks."""

    __slots__ = ("bins", "count", "seconds")

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0
        self.bins: dict[int, int] = {}

    def add(self, seconds: float) -> None:
        """One more duration."""
        self.count += 1
        self.seconds += seconds
        where = bin_of(seconds)
        self.bins[where] = self.bins.get(where, 0) + 1

    def merge(self, other: Histogram) -> None:
        """All that ``other`` counted, too."""
        self.count += other.count
        self.seconds += other.seconds
        for where, count in other.bins.items():
            self.bins[where] = self.bins.get(where, 0) + count

    def quantile(self, share: float) -> float:
        """The duration that this share of all is not longer than, in seconds. There must be one."""
        rank = max(1, math.ceil(share * sum(self.bins.values())))
        for where in sorted(self.bins):
            rank -= self.bins[where]
            if rank <= 0:
                return math.exp((where + 0.5) * _GROWTH)
        raise ValueError("no durations")


def bin_of(seconds: float) -> int:
    """The bin of a duration; all that are too short to be told apart are one."""
    return math.floor(math.log(seconds if seconds > _FLOOR_S else _FLOOR_S) / _GROWTH)
