"""A reading as samples of the catalogue's metrics. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from foreshard.alerts.alert import AlertKind
from foreshard.control.models import PLAN_STATES
from foreshard.metrics.catalogue import PREFIX
from foreshard.metrics.reading import MigrationReading, Reading, ShardReading
from foreshard.migration.lifecycle import PATH, Stage

STAGES = {stage: at for at, stage in enumerate((*PATH[:-1], Stage.ABORTING, Stage.REVERSING), start=1)}
"""The numbers that stand for stages."""


@dataclass(frozen=True)
class Sample:
    """One value. ``labels``: the values of the metric's labels, in the catalogue's order."""

    name: str
    labels: tuple[str, ...]
    value: float


def samples(reading: Reading) -> Iterator[Sample]:
    """All but the histogram, and what the collector knows of itself."""
    for name, labels, value in _all(reading):
        if isinstance(value, datetime):
            yield Sample(PREFIX + name, labels, value.timestamp())
        elif value is not None:
            yield Sample(PREFIX + name, labels, float(value))


Told = tuple[str, tuple[str, ...], float | datetime | None]


def _all(reading: Reading) -> Iterator[Told]:
    for shard in reading.shards:
        yield from _shard(shard)
    forecast = reading.forecast
    if forecast is not None:
        yield "forecast_timestamp_seconds", (), forecast.made_at
        yield "forecast_duration_seconds", (), forecast.seconds
        yield "forecast_horizon_seconds", (), forecast.horizon_hours * 3600
        yield "forecast_notes", (), forecast.notes
        yield "forecast_coverage_ratio", (), forecast.coverage
        for model, many in forecast.models.items():
            yield "forecast_series", (model,), many
    yield "decision_timestamp_seconds", (), reading.decided_at
    for state in PLAN_STATES:
        yield "plans", (state,), reading.plan_states.get(state, 0)
    for plan in reading.plans:
        yield "plan_start_by_timestamp_seconds", (str(plan.id), plan.source, plan.target), plan.start_by
    yield "wal_budget_bytes", (), reading.wal_budget_bytes
    for migration in reading.migrations:
        yield from _migration(migration)
    for flip in reading.flips:
        yield "flips_total", (flip.kind,), sum(flip.counts)
    yield from _counted(reading.counts)


def _shard(shard: ShardReading) -> Iterator[Told]:
    yield "shard_buckets", (shard.shard,), shard.buckets
    yield "shard_leftovers", (shard.shard,), shard.leftovers
    yield "shard_last_sample_timestamp_seconds", (shard.shard,), shard.sampled_at
    for one in shard.resources:
        labels = one.shard, one.resource
        yield "shard_utilisation_ratio", labels, one.utilisation
        for level, value in one.forecast.items():
            yield "shard_forecast_ratio", (*labels, f"{level:g}"), value
        for level, value in one.peaks.items():
            yield "shard_forecast_peak_ratio", (*labels, f"{level:g}"), value
        yield "shard_exceed_probability", labels, one.exceeds
        yield "shard_exceed_timestamp_seconds", labels, one.exceeds_at


def _migration(one: MigrationReading) -> Iterator[Told]:
    labels = str(one.id), one.source, one.target
    yield "migration_start_by_timestamp_seconds", labels, one.start_by
    yield "migration_stage", (*labels, one.stage.value), STAGES.get(one.stage)
    yield "migration_created_timestamp_seconds", labels, one.created_at
    yield "migration_owned_ratio", labels, one.owned
    yield "migration_busy_timestamp_seconds", labels, one.busy_since
    yield "migration_lease_expiry_timestamp_seconds", labels, one.lease_expires_at
    yield "migration_attempts", labels, one.attempts
    yield "migration_failed", labels, one.failure is not None
    yield "migration_write_pause_seconds", labels, one.longest_pause_s
    findings = 0 if one.failed_verification is None else max(1, one.failed_verification[1])
    yield "migration_verification_findings", labels, findings
    if one.waits is not None:
        yield "migration_approval_requested_timestamp_seconds", labels, one.waits.requested_at
    if one.gate is not None:
        yield "migration_gate_passed", (*labels, one.gate.checkpoint), one.gate.passed
    if one.progress is not None:
        yield "migration_progress_ratio", (*labels, one.progress.step), one.progress.fraction
        yield "migration_progress_bytes", labels, one.progress.bytes_done
        yield "migration_progress_total_bytes", labels, one.progress.bytes_total
        yield "migration_progress_rows", labels, one.progress.rows
        yield "migration_rate_bytes_per_second", labels, one.progress.bytes_per_s
        yield "migration_eta_seconds", labels, one.progress.eta_s
    for stream in one.streams:
        yield "migration_lag_bytes", (*labels, stream.direction), stream.lag_bytes
        yield "migration_lag_seconds", (*labels, stream.direction), stream.lag_seconds
        yield "migration_wal_kept_bytes", (*labels, stream.direction, stream.shard), stream.wal_bytes
    for outcome, many in one.shadow_reads.items():
        yield "migration_shadow_reads_total", (*labels, outcome), many


def _counted(counts: Mapping[str, Mapping[tuple[str, str], int]]) -> Iterator[Told]:
    migrations = {stage: many for (stage, _), many in counts.get("migrations", {}).items()}
    for stage in Stage:
        yield "migrations", (stage.value,), migrations.get(stage.value, 0)
    for (checkpoint, verdict), many in counts.get("gates", {}).items():
        yield "gate_verdicts_total", (checkpoint, verdict), many
    for (verdict, _), many in counts.get("verifications", {}).items():
        yield "verifications_total", (verdict,), many
    for (state, _), many in counts.get("approvals", {}).items():
        yield "approvals", (state,), many
    for (application, state), many in counts.get("routers", {}).items():
        yield "routers", (application, state), many
    alerts = {kind: many for (kind, _), many in counts.get("alerts", {}).items()}
    for kind in AlertKind:
        yield "alerts", (kind.value,), alerts.get(kind.value, 0)
