"""What shadow reads found: counts, latencies of both sides, and a few of the differences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from foreshard.router.latency import LatencyHistogram

KEPT_DIFFERENCES = 5
"""More of them between two flushes say nothing new."""

_COUNTS = ("reads", "matches", "lags", "mismatches", "unsettled", "failures", "dropped")


@dataclass
class ShadowCounts:
    """What one router saw of one migration since the last flush.

    Every read that was taken up is in ``reads`` once it ends, and in exactly one of ``matches``, ``lags``,
    ``mismatches``, ``unsettled`` (the owner's rows changed at every look), ``failures`` (a side could not be read).
    ``dropped`` were not taken up: queue full. ``differences`` tells of some mismatches, without any value of a row.
    """

    migration: int
    reads: int = 0
    matches: int = 0
    lags: int = 0
    mismatches: int = 0
    unsettled: int = 0
    failures: int = 0
    dropped: int = 0
    owner: LatencyHistogram = field(default_factory=LatencyHistogram)
    other: LatencyHistogram = field(default_factory=LatencyHistogram)
    differences: list[str] = field(default_factory=list)

    def merge(self, later: ShadowCounts) -> None:
        """Add what was counted later."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(later, name))
        self.owner.merge(later.owner)
        self.other.merge(later.other)
        self.differences = (self.differences + later.differences)[:KEPT_DIFFERENCES]


ShadowSink: TypeAlias = Callable[[ShadowCounts], None]
"""Takes what was counted since the last call. If it raises, the counts are kept and come again."""
