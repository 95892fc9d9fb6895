"""What came of a replay."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from foreshard.planning.view import Floats


@dataclass(frozen=True)
class Moved:
    """A migration that was done. ``undone``: how many of its buckets came back to a shard that they had just left."""

    source: str
    target: str
    buckets: tuple[str, ...]
    bytes: int
    started_at: datetime
    cutover_at: datetime
    undone: int


@dataclass(frozen=True, eq=False)
class Outcome:
    """One fleet under one contender.

    ``utilisation`` (S, T): of each shard's busiest resource, copies included, in steps of ``step`` from ``starts_at``
    on. ``stretch`` (T,): how many times its bare service time a request took, in the mean over all queries.
    ``pause_s``: write pauses of all migrations. ``expired``: plans that a later decision dropped before they began.
    """

    fleet: str
    contender: str
    threshold: float | None
    shards: tuple[str, ...]
    starts_at: datetime
    step: timedelta
    utilisation: Floats
    stretch: Floats
    moves: tuple[Moved, ...]
    pause_s: float
    decisions: int
    expired: int

    @property
    def saturated_minutes(self) -> float:
        """Shard-minutes in which a resource was asked for more than there is."""
        return float((self.utilisation > 1.0).sum() * self.step.total_seconds() / 60)

    @property
    def saturated_share(self) -> float:
        """The same of all shard-minutes."""
        return float((self.utilisation > 1.0).mean())

    @property
    def bytes(self) -> int:
        """Moved."""
        return sum(one.bytes for one in self.moves)

    def figures(self) -> dict[str, Any]:
        """What a report says of it."""
        return {
            "fleet": self.fleet,
            "contender": self.contender,
            "threshold": self.threshold,
            "saturated_shard_minutes": self.saturated_minutes,
            "saturated_share": self.saturated_share,
            "worst_utilisation": float(self.utilisation.max()),
            "latency_stretch_mean": float(self.stretch.mean()),
            "latency_stretch_p99": float(np.quantile(self.stretch, 0.99)),
            "bytes": self.bytes,
            "migrations": len(self.moves),
            "moves": sum(len(one.buckets) for one in self.moves),
            "moves_undone": sum(one.undone for one in self.moves),
            "pause_s": self.pause_s,
            "decisions": self.decisions,
            "plans_expired": self.expired,
        }
