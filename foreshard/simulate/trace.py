"""The load that is replayed: what every bucket did, whatever shard it lay on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from foreshard.errors import InvalidInput
from foreshard.forecast.calendar import Event
from foreshard.forecast.panel import UTC_ZONE
from foreshard.planning.view import Floats, Sizes

STEPS = tuple(timedelta(minutes=minutes) for minutes in (5, 15, 60))
"""Lengths of a step, as load is kept in."""


@dataclass(frozen=True, eq=False)
class Trace:
    """B buckets by name, R resources, T steps.

    ``load`` (B, R, T): means over steps in the metrics' units; ``queries`` (B, T): queries/s; ``size_bytes`` (B,).
    The first step begins at ``starts_at`` (on the grid of ``step``). ``events`` are known in advance.

    Raises ``InvalidInput``: shapes that do not fit, a value that is no load, another step, names that are not sorted.
    """

    names: tuple[str, ...]
    metrics: tuple[str, ...]
    load: Floats
    queries: Floats
    size_bytes: Sizes
    starts_at: datetime
    step: timedelta
    events: tuple[Event, ...] = ()
    timezone: ZoneInfo = UTC_ZONE

    def __post_init__(self) -> None:
        if self.step not in STEPS:
            raise InvalidInput("step", f"{self.step} is none of 5, 15 and 60 minutes")
        if self.starts_at.tzinfo is None or (self.starts_at - datetime(1970, 1, 1, tzinfo=UTC)) % self.step:
            raise InvalidInput("starts_at", f"{self.starts_at} has no time zone, or is not on the grid")
        if list(self.names) != sorted(set(self.names)) or not self.names:
            raise InvalidInput(
                "buckets", "there are none, they are not sorted by name, or two have the same one"
            )
        steps = self.load.shape[-1]
        shapes = {
            "load": (self.load, (len(self.names), len(self.metrics), steps)),
            "queries": (self.queries, (len(self.names), steps)),
            "size_bytes": (self.size_bytes, (len(self.names),)),
        }
        for name, (values, shape) in shapes.items():
            if values.shape != shape:
                raise InvalidInput(name, f"shape {values.shape} is not {shape}")
            if not (np.isfinite(values).all() and (values >= 0).all()):
                raise InvalidInput(name, "holds a value below zero, or no number")

    @property
    def steps(self) -> int:
        """How many steps are known."""
        return int(self.load.shape[-1])

    @property
    def day(self) -> int:
        """Steps of a day."""
        return timedelta(days=1) // self.step

    def at(self, step: int) -> datetime:
        """The start of a step."""
        return self.starts_at + step * self.step
