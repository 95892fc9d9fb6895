"""When a plan may start, must start, and is expected to end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True)
class Timeline:
    """Fleet time, UTC.

    ``not_before``: the planned start, which is where load is least before the deadline, within maintenance windows,
    outside blackouts, when both shards are free. ``start_by``: the latest start that still ends before ``excess_at``.
    ``excess_at``: start of the first step at which load may exceed capacity; None if only the present load is the
    reason. ``predicted_s``: duration with margin. ``predicted_pause_ms``: write pause of all flips. ``why``: what set
    the planned start, in words.
    """

    not_before: datetime
    start_by: datetime
    excess_at: datetime | None
    predicted_s: float
    predicted_pause_ms: float
    why: str = ""

    @property
    def ends_at(self) -> datetime:
        """The expected end of a migration that starts as planned, with margin."""
        return self.not_before + timedelta(seconds=self.predicted_s)

    @property
    def late(self) -> bool:
        """Whether even the planned start is expected to end after the excess begins."""
        return self.start_by < self.not_before
