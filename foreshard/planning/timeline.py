"""When a plan may start, must start, and is expected to end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from foreshard.planning.prediction import Prediction


@dataclass(frozen=True)
class Timeline:
    """Fleet time, UTC.

    ``excess_at``: start of the first step whose predicted load exceeds capacity; None if only the present
    load is the reason. ``start_by``: the latest start that still ends before it. ``predicted_s``: duration
    with margin. ``predicted_pause_ms``: write pause of all flips.
    """

    not_before: datetime
    start_by: datetime
    excess_at: datetime | None
    predicted_s: float
    predicted_pause_ms: float

    @property
    def late(self) -> bool:
        """Whether even a start now is expected to end after the excess begins."""
        return self.start_by < self.not_before


def timeline(now: datetime, excess_at: datetime | None, prediction: Prediction) -> Timeline:
    """The timeline of a migration; without a predicted excess it must start now."""
    return Timeline(
        not_before=now,
        start_by=now if excess_at is None else excess_at - timedelta(seconds=prediction.total_s),
        excess_at=excess_at,
        predicted_s=prediction.total_s,
        predicted_pause_ms=prediction.pause_ms,
    )
