"""Measured values: the one currency of all sources of load."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Sample:
    """One value of ``metric`` (its name holds the unit) at ``ts``; ``bucket`` is None for a whole shard.

    Of a rate, ``ts`` is the end of the time that it is the mean of.
    """

    ts: datetime
    shard: str
    bucket: str | None
    metric: str
    value: float
