"""A histogram of latencies: fixed memory, quantiles within a tenth."""

from __future__ import annotations

import math

_SMALLEST_MS = 0.01
_GROWTH = 1.1
_CELLS = 160  # the last begins at 38 s


class LatencyHistogram:
    """Counts latencies in cells that grow by a tenth each, from 0.01 ms. Not thread-safe."""

    def __init__(self) -> None:
        self._cells = [0] * _CELLS
        self.count = 0
        self.max_ms = 0.0

    def add(self, seconds: float) -> None:
        """Count one latency."""
        ms = seconds * 1000
        cell = 0 if ms <= _SMALLEST_MS else min(_CELLS - 1, 1 + int(math.log(ms / _SMALLEST_MS, _GROWTH)))
        self._cells[cell] += 1
        self.count += 1
        self.max_ms = max(self.max_ms, ms)

    def merge(self, other: LatencyHistogram) -> None:
        """Add all that ``other`` counted."""
        self._cells = [mine + theirs for mine, theirs in zip(self._cells, other._cells, strict=True)]
        self.count += other.count
        self.max_ms = max(self.max_ms, other.max_ms)

    def quantile_ms(self, q: float) -> float:
        """The upper edge of the cell that holds quantile ``q`` (0..1), at most the maximum; 0 if empty."""
        wanted = q * self.count
        seen = 0
        for cell, count in enumerate(self._cells):
            seen += count
            if count and seen >= wanted:
                return min(self.max_ms, _SMALLEST_MS * _GROWTH**cell)
        return 0.0

    def summary(self) -> dict[str, float]:
        """Count, median, 99th percentile and maximum, in milliseconds, ready for JSON."""
        return {
            "count": self.count,
            "p50_ms": round(self.quantile_ms(0.5), 3),
            "p99_ms": round(self.quantile_ms(0.99), 3),
            "max_ms": round(self.max_ms, 3),
        }
