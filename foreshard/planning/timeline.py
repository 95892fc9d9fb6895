"""When a plan may start, must start, and is expected to end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from foreshard.planning.policy import DecisionPolicy


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


def predicted_seconds(size_bytes: int, policy: DecisionPolicy) -> float:
    """Backfill, catch-up, verification, soak and margin."""
    return (
        size_bytes / policy.copy_bytes_per_s
        + policy.catch_up_s
        + size_bytes / policy.verify_bytes_per_s
        + policy.soak_s
        + policy.margin_s
    )


def timeline(now: datetime, excess_at: datetime | None, size_bytes: int, policy: DecisionPolicy) -> Timeline:
    """The timeline of a migration of ``size_bytes``; without a predicted excess it must start now."""
    seconds = predicted_seconds(size_bytes, policy)
    return Timeline(
        not_before=now,
        start_by=now if excess_at is None else excess_at - timedelta(seconds=seconds),
        excess_at=excess_at,
        predicted_s=seconds,
        predicted_pause_ms=policy.expected_pause_s * 1000,
    )
