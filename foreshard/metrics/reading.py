"""What was read of the control database at one moment: the facts behind metrics and alerts. Pure.

All times are real ones, UTC; shares are of a shard's capacity of the resource.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from foreshard.migration.lifecycle import Stage


@dataclass(frozen=True)
class ResourceReading:
    """One resource of one shard.

    ``utilisation``: mean of the last minutes, None without samples. ``forecast``: by quantile, what the newest forecast
    says of the present step. ``peaks``: by quantile, of its whole window's largest load. ``exceeds``: the probability
    that this is above the capacity; ``exceeds_at``: the start of the first step whose planned-with quantile is.
    """

    shard: str
    resource: str
    utilisation: float | None = None
    forecast: Mapping[float, float] = field(default_factory=dict)
    peaks: Mapping[float, float] = field(default_factory=dict)
    exceeds: float | None = None
    exceeds_at: datetime | None = None


@dataclass(frozen=True)
class ShardReading:
    """A shard of the fleet. ``sampled_at``: None if nothing was sampled for an hour."""

    shard: str
    buckets: int
    leftovers: int
    sampled_at: datetime | None
    resources: tuple[ResourceReading, ...]


@dataclass(frozen=True)
class ForecastReading:
    """The newest forecast that a decision can be made on. ``models``: of how many series each is the champion."""

    id: int
    made_at: datetime
    seconds: float
    horizon_hours: float
    models: Mapping[str, int]
    notes: int
    coverage: float | None


@dataclass(frozen=True)
class PlanReading:
    """A plan that is proposed. ``start_by``: the latest start that ends in time."""

    id: int
    source: str
    target: str
    start_by: datetime | None


@dataclass(frozen=True)
class ProgressReading:
    """How far the newest step is. ``bytes_done``, ``bytes_total``: None where it does not count bytes."""

    step: str
    at: datetime
    fraction: float
    bytes_done: float | None
    bytes_total: float | None
    rows: int | None
    bytes_per_s: float | None
    eta_s: float | None


@dataclass(frozen=True)
class StreamReading:
    """One direction of a migration's replication. ``wal_bytes``: what its publisher, ``shard``, keeps for it."""

    direction: str
    shard: str
    lag_bytes: float | None = None
    lag_seconds: float | None = None
    wal_bytes: float | None = None


@dataclass(frozen=True)
class ApprovalReading:
    """The newest question to a person. States as in the control database."""

    id: int
    state: str
    requested_at: datetime
    expires_at: datetime | None = None


@dataclass(frozen=True)
class GateReading:
    """The newest verdict."""

    id: int
    checkpoint: str
    passed: bool
    made_at: datetime


@dataclass(frozen=True)
class MigrationReading:
    """A migration that has not ended. ``owned``: share of its keys that the target owns.

    ``busy_since``: the newest sign of work: a progress that was told, or a step that began. ``failed_verification``:
    the one that stands against it, with how many findings.
    """

    id: int
    plan: int
    source: str
    target: str
    stage: Stage
    owned: float
    waits_for: str | None
    failure: str | None
    attempts: int
    flow_run_id: str | None
    created_at: datetime
    lease_expires_at: datetime | None
    start_by: datetime | None
    busy_since: datetime
    progress: ProgressReading | None = None
    streams: tuple[StreamReading, ...] = ()
    approval: ApprovalReading | None = None
    gate: GateReading | None = None
    longest_pause_s: float | None = None
    failed_verification: tuple[int, int] | None = None
    shadow_reads: Mapping[str, int] = field(default_factory=dict)

    @property
    def waits(self) -> ApprovalReading | None:
        """The question that a person has yet to answer."""
        asked = self.approval
        return (
            asked if self.waits_for is not None and asked is not None and asked.state == "pending" else None
        )


PAUSE_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the histogram of write pauses, seconds."""


@dataclass(frozen=True)
class FlipReading:
    """Flips of one kind: ``counts`` by pause, one more than there are bounds."""

    kind: str
    counts: tuple[int, ...]
    sum_s: float


@dataclass(frozen=True)
class Reading:
    """All of it. ``counts``: what -> its labels' values -> how many; see `sql/metrics_counts.sql`."""

    at: datetime
    offset: timedelta
    shards: Sequence[ShardReading] = ()
    forecast: ForecastReading | None = None
    decided_at: datetime | None = None
    plan_states: Mapping[str, int] = field(default_factory=dict)
    plans: Sequence[PlanReading] = ()
    migrations: Sequence[MigrationReading] = ()
    flips: Sequence[FlipReading] = ()
    counts: Mapping[str, Mapping[tuple[str, str], int]] = field(default_factory=dict)
    wal_budget_bytes: float = 0.0
