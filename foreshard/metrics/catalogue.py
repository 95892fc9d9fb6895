"""Every metric that Foreshard tells: name, kind, labels, unit, and what it means. Pure.

Names follow Prometheus' conventions: base units at the end, `_total` for what only grows, times as seconds since 1970
(an age is ``time() - metric``). Nothing is labelled by bucket or key: the number of series is bounded by shards,
resources and migrations under way.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

PREFIX = "foreshard_"

MOVE = ("migration", "source", "target")
"""Labels of what is told of a migration that has not ended."""


class Kind(StrEnum):
    """As Prometheus calls them."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True)
class MetricSpec:
    """One metric. ``unit``: in words, for people."""

    name: str
    unit: str
    labels: tuple[str, ...]
    text: str
    kind: Kind = Kind.GAUGE


def _gauge(name: str, unit: str, text: str, *labels: str) -> MetricSpec:
    return MetricSpec(PREFIX + name, unit, labels, text)


def _counter(name: str, unit: str, text: str, *labels: str) -> MetricSpec:
    return MetricSpec(PREFIX + name, unit, labels, text, Kind.COUNTER)


TIME = "seconds since 1970"
SHARE = "share of capacity"
LOAD = ("shard", "resource")

CATALOGUE = (
    _gauge(
        "up", "0 or 1", "1 if the control database could be read for this scrape; else nothing else is told."
    ),
    _gauge("read_duration_seconds", "seconds", "How long reading the control database took."),
    # Shards
    _gauge("shard_utilisation_ratio", SHARE, "Load of a shard, mean of the last five minutes.", *LOAD),
    _gauge(
        "shard_forecast_ratio", SHARE, "What the newest forecast says of the load now.", *LOAD, "quantile"
    ),
    _gauge(
        "shard_forecast_peak_ratio",
        SHARE,
        "Largest load within the forecast's window: its median, and the quantile that is planned with.",
        *LOAD,
        "quantile",
    ),
    _gauge(
        "shard_exceed_probability",
        "0 to 1",
        "That load exceeds the capacity within the forecast's window.",
        *LOAD,
    ),
    _gauge(
        "shard_exceed_timestamp_seconds",
        TIME,
        "When the quantile that is planned with first exceeds the capacity; missing where it does not.",
        *LOAD,
    ),
    _gauge("shard_buckets", "buckets", "Buckets that lie on a shard.", "shard"),
    _gauge(
        "shard_last_sample_timestamp_seconds",
        TIME,
        "When load was last collected; missing where it was not for an hour.",
        "shard",
    ),
    _gauge("shard_leftovers", "objects", "What ended migrations made there and nobody removed yet.", "shard"),
    # Forecasts, decisions, plans
    _gauge("forecast_timestamp_seconds", TIME, "When the newest forecast of the whole fleet was stored."),
    _gauge("forecast_duration_seconds", "seconds", "How long it took."),
    _gauge("forecast_horizon_seconds", "seconds", "How far ahead it reaches."),
    _gauge(
        "forecast_series",
        "series",
        "Of how many series a model is the champion; seasonal_naive is the fallback.",
        "model",
    ),
    _gauge(
        "forecast_notes", "notes", "What went otherwise than it should have in it, failed series among them."
    ),
    _gauge(
        "forecast_coverage_ratio",
        "0 to 1",
        "Share of actual values that its 90 % bands of shards held at past origins.",
    ),
    _gauge("decision_timestamp_seconds", TIME, "When the newest decision was made."),
    _gauge("plans", "plans", "Plans by state.", "state"),
    _gauge(
        "plan_start_by_timestamp_seconds",
        TIME,
        "The latest start of a plan that waits that still ends before the excess.",
        "plan",
        "source",
        "target",
    ),
    # Migrations
    _gauge("migrations", "migrations", "Migrations by stage, ended ones too.", "stage"),
    _gauge(
        "migration_stage",
        "number of the stage",
        "Where a migration is: 1 preflight to 10 finalise, 11 aborting, 12 reversing.",
        *MOVE,
        "stage",
    ),
    _gauge("migration_start_by_timestamp_seconds", TIME, "The same of the plan that it carries out.", *MOVE),
    _gauge("migration_created_timestamp_seconds", TIME, "When it began.", *MOVE),
    _gauge("migration_owned_ratio", "0 to 1", "Share of its keys that the target owns.", *MOVE),
    _gauge("migration_progress_ratio", "0 to 1", "How far its newest step is.", *MOVE, "step"),
    _gauge("migration_progress_bytes", "bytes", "Done by its newest step, where that counts bytes.", *MOVE),
    _gauge("migration_progress_total_bytes", "bytes", "That step's whole.", *MOVE),
    _gauge("migration_progress_rows", "rows", "Handled by its newest step, where that counts rows.", *MOVE),
    _gauge("migration_rate_bytes_per_second", "bytes/s", "The present rate of its newest step.", *MOVE),
    _gauge("migration_eta_seconds", "seconds", "Until its newest step ends at the present rate.", *MOVE),
    _gauge(
        "migration_busy_timestamp_seconds",
        TIME,
        "Its newest sign of work: a progress, or a step that began.",
        *MOVE,
    ),
    _gauge(
        "migration_lag_bytes",
        "bytes",
        "WAL that a stream has not confirmed, where the step tells it.",
        *MOVE,
        "direction",
    ),
    _gauge(
        "migration_lag_seconds",
        "seconds",
        "How far a stream is behind, where the step tells it.",
        *MOVE,
        "direction",
    ),
    _gauge(
        "migration_wal_kept_bytes",
        "bytes",
        "WAL that a shard keeps for a stream, where the step tells it.",
        *MOVE,
        "direction",
        "shard",
    ),
    _gauge(
        "wal_budget_bytes",
        "bytes",
        "WAL that a server may keep for a migration (migration.wal_budget_bytes).",
    ),
    _gauge(
        "migration_approval_requested_timestamp_seconds",
        TIME,
        "Since when a person's approval is waited for; missing while none is.",
        *MOVE,
    ),
    _gauge(
        "migration_lease_expiry_timestamp_seconds",
        TIME,
        "Until when its driver's lease holds; it is renewed every few seconds.",
        *MOVE,
    ),
    _gauge("migration_attempts", "runs", "How many runs have driven it.", *MOVE),
    _gauge("migration_failed", "0 or 1", "1 if its last run failed and nobody went on with it.", *MOVE),
    _gauge("migration_gate_passed", "0 or 1", "The newest verdict of its checks.", *MOVE, "checkpoint"),
    _gauge(
        "migration_verification_findings",
        "findings",
        "Of the verification that stands against it; 0 without one.",
        *MOVE,
    ),
    _gauge("migration_write_pause_seconds", "seconds", "The longest write pause of its flips.", *MOVE),
    _counter(
        "migration_shadow_reads_total",
        "reads",
        "Reads repeated on the other side, by outcome.",
        *MOVE,
        "outcome",
    ),
    # Counted over all migrations
    _counter("flips_total", "flips", "Flips that were opened: canary, cutover, back.", "kind"),
    MetricSpec(
        PREFIX + "flip_pause_seconds",
        "seconds",
        ("kind",),
        "Write pauses of flips that were opened.",
        Kind.HISTOGRAM,
    ),
    _counter(
        "gate_verdicts_total",
        "verdicts",
        "Verdicts of checks, by checkpoint: go or no.",
        "checkpoint",
        "verdict",
    ),
    _counter("verifications_total", "verifications", "Verifications: passed, failed, not_made.", "verdict"),
    _gauge("approvals", "approvals", "Approvals that were asked for, by state.", "state"),
    _gauge(
        "routers",
        "routers",
        "Registered routers: live, or silent for less than an hour.",
        "application",
        "state",
    ),
    _gauge("alerts", "alerts", "Alerts that have begun and not ended, as the janitor saw them last.", "kind"),
)
