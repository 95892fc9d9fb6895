"""What a router counts: transactions, retries, refusals, latencies, shadow reads. A call takes about a microsecond."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Self

from foreshard.errors import RefusedWrite, ShardUnavailable, UnknownCommitOutcome
from foreshard.router.map_source import MapSource, MapState
from foreshard.topology.routing_map import Intent

BOUNDS_S = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper edges of the cells of a histogram; the last cell has none."""


class Outcome(StrEnum):
    """How a transaction ended."""

    COMMITTED = "committed"
    FAILED = "failed"
    """By an error of the application: its statement, or its own code."""
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    UNKNOWN = "unknown"
    """The connection broke while COMMIT was under way."""

    @classmethod
    def of(cls, error: BaseException | None) -> Self:
        """The outcome of a transaction that ended with ``error``."""
        if error is None:
            return cls("committed")
        if isinstance(error, RefusedWrite):
            return cls("refused")
        if isinstance(error, ShardUnavailable):
            return cls("unavailable")
        return cls("unknown" if isinstance(error, UnknownCommitOutcome) else "failed")


class ShadowOutcome(StrEnum):
    """What became of a read that was to be repeated on the other side."""

    MATCH = "match"
    LAG = "lag"
    MISMATCH = "mismatch"
    UNSETTLED = "unsettled"
    """The owner's rows changed at every look."""
    FAILURE = "failure"
    """A side could not be read."""
    DROPPED = "dropped"
    """Not taken up: too many were waiting."""


@dataclass(frozen=True)
class Latencies:
    """A histogram. ``cumulative``: how many took at most each of ``BOUNDS_S``, and last of all how many there are."""

    cumulative: tuple[int, ...]
    sum_s: float


@dataclass(frozen=True)
class Figures:
    """All that was counted since the router was made, at one moment; histograms by intent and shard, or by side."""

    map: MapState
    transactions: Mapping[tuple[Intent, Outcome], int]
    latencies: Mapping[tuple[Intent, str], Latencies]
    retries: int
    refusals: Mapping[str, int]
    shadow_reads: Mapping[ShadowOutcome, int]
    shadow_latencies: Mapping[str, Latencies]


class Telemetry:
    """Counts what a router does; ``application`` names it, ``source`` tells of its map. Thread-safe."""

    def __init__(self, application: str, source: MapSource) -> None:
        self.application = application
        self._source = source
        self._lock = threading.Lock()
        self._ended: defaultdict[tuple[Intent, Outcome, str], _Histogram] = defaultdict(_Histogram)
        self._retries = 0
        self._refusals: Counter[str] = Counter()
        self._shadow_reads: Counter[ShadowOutcome] = Counter()
        self._owner, self._other = _Histogram(), _Histogram()

    def transaction(self, intent: Intent, outcome: Outcome, shard: str, seconds: float) -> None:
        """One transaction ended, ``seconds`` after the application asked for it: retries and waiting included.

        ``shard``: where the last attempt went.
        """
        with self._lock:
            self._ended[intent, outcome, shard].add(seconds)

    def refused(self, sqlstate: str | None) -> None:
        """An attempt was turned away; None where no server said why (a connection broke, none was free)."""
        with self._lock:
            self._refusals[sqlstate or "none"] += 1

    def retried(self) -> None:
        """An attempt is made again."""
        with self._lock:
            self._retries += 1

    def shadow_read(self, outcome: ShadowOutcome) -> None:
        """A read was repeated on the other side, or was not."""
        with self._lock:
            self._shadow_reads[outcome] += 1

    def shadow_latency(self, owner_s: float, other_s: float) -> None:
        """The seconds that one read took at its owner, and on the other side."""
        with self._lock:
            self._owner.add(owner_s)
            self._other.add(other_s)

    def figures(self) -> Figures:
        """All of it, now."""
        state = self._source.state()
        transactions: Counter[tuple[Intent, Outcome]] = Counter()
        latencies: defaultdict[tuple[Intent, str], _Histogram] = defaultdict(_Histogram)
        with self._lock:
            for (intent, outcome, shard), histogram in self._ended.items():
                transactions[intent, outcome] += histogram.count
                latencies[intent, shard].merge(histogram)
            return Figures(
                state,
                dict(transactions),
                {key: histogram.latencies() for key, histogram in latencies.items()},
                self._retries,
                dict(self._refusals),
                dict(self._shadow_reads),
                {"owner": self._owner.latencies(), "other": self._other.latencies()},
            )


class _Histogram:
    def __init__(self) -> None:
        self._cells = [0] * (len(BOUNDS_S) + 1)
        self._sum_s = 0.0

    def add(self, seconds: float) -> None:
        self._cells[bisect_left(BOUNDS_S, seconds)] += 1
        self._sum_s += seconds

    @property
    def count(self) -> int:
        return sum(self._cells)

    def merge(self, other: _Histogram) -> None:
        self._cells = [mine + theirs for mine, theirs in zip(self._cells, other._cells, strict=True)]
        self._sum_s += other._sum_s

    def latencies(self) -> Latencies:
        return Latencies(tuple(accumulate(self._cells)), self._sum_s)
