"""The tables of the control database.

Every lifecycle has its CHECK constraint here and its transitions in one place in the library: nothing invents a state.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Computed,
    DateTime,
    ForeignKey,
    Index,
    MetaData,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from foreshard.migration.lifecycle import ENDS, Stage
from foreshard.planning.learnt_rates import RateKind
from foreshard.topology.keys import SLOTS, KeyType


def _one_of(column: str, values: Iterable[str]) -> str:
    return f"{column} IN ({', '.join(repr(str(value)) for value in values)})"


class Base(DeclarativeBase):
    """Root of the models; constraint names follow one rule so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it as a class attribute
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[str]: ARRAY(Text),
    }


class ControlPlane(Base):
    """This installation. Its ``id`` is part of the names of all objects it makes on shards."""

    __tablename__ = "control_plane"
    __table_args__ = (CheckConstraint("singleton", name="singleton"),)
    singleton: Mapped[bool] = mapped_column(primary_key=True, default=True)
    id: Mapped[str]
    routing_epoch: Mapped[int] = mapped_column(BigInteger, default=1)
    key_type: Mapped[str] = mapped_column(default=KeyType.TEXT.value)
    tables: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """Distribution column of every table of a bucket, by table name."""
    bucketing: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """`Bucketing.to_json`: how the bucket of a key is found."""


SHARD_STATES = ["active", "draining", "removed"]


class Shard(Base):
    """One PostgreSQL primary. ``dsn`` never holds a password. One that was removed stays for the history's sake."""

    __tablename__ = "shards"
    __table_args__ = (CheckConstraint(_one_of("state", SHARD_STATES), name="state"),)
    name: Mapped[str] = mapped_column(primary_key=True)
    dsn: Mapped[str]
    application_dsn: Mapped[str]
    capacity: Mapped[dict[str, Any]]
    """Metric -> capacity, in the metric's unit."""
    state: Mapped[str] = mapped_column(default="active", server_default=text("'active'"))


class Bucket(Base):
    """A bucket, its number in the key space, and the shard that holds it (its *placement*)."""

    __tablename__ = "buckets"
    name: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(unique=True)
    shard: Mapped[str] = mapped_column(ForeignKey("shards.name"))
    last_moved_at: Mapped[datetime | None]


class CalendarEvent(Base):
    """Something that history does not show and that changes load: a holiday, a promotion."""

    __tablename__ = "events"
    __table_args__ = (
        CheckConstraint("ends_at > starts_at", name="order"),
        CheckConstraint("effect > 0 AND effect < 'infinity'", name="effect"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    effect: Mapped[float]
    shards: Mapped[list[str] | None]
    buckets: Mapped[list[str] | None]


class LoadSample(Base):
    """One measured value. ``bucket`` is '' for a sample of the whole shard."""

    __tablename__ = "load_samples"
    __table_args__ = (
        CheckConstraint(_one_of("source", ["history", "live"]), name="source"),
        CheckConstraint("value >= 0 AND value < 'infinity'", name="value"),
        Index("ix_load_samples_series", "metric", "bucket", "shard", "ts"),
    )
    ts: Mapped[datetime] = mapped_column(primary_key=True)
    shard: Mapped[str] = mapped_column(primary_key=True)
    bucket: Mapped[str] = mapped_column(primary_key=True, default="")
    metric: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float]
    source: Mapped[str]


class CounterState(Base):
    """The last reading of a shard's counters, from which the next rate is made."""

    __tablename__ = "counter_states"
    shard: Mapped[str] = mapped_column(primary_key=True)
    reading: Mapped[dict[str, Any]]


class ForecastRun(Base):
    """One run of the forecast flow over all series."""

    __tablename__ = "forecast_runs"
    id: Mapped[int] = mapped_column(primary_key=True)
    issued_at: Mapped[datetime]
    horizon_hours: Mapped[float]
    live_samples_used: Mapped[int]
    series: Mapped[int]
    seconds: Mapped[float]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ForecastBand(Base):
    """The forecast of one series: times and, per step, the quantiles .05 .10 .25 .50 .75 .90 .95."""

    __tablename__ = "forecast_bands"
    run_id: Mapped[int] = mapped_column(ForeignKey("forecast_runs.id", ondelete="CASCADE"), primary_key=True)
    shard: Mapped[str] = mapped_column(primary_key=True, default="")
    bucket: Mapped[str] = mapped_column(primary_key=True, default="")
    metric: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str]
    trained_from: Mapped[datetime | None]
    trained_to: Mapped[datetime | None]
    points: Mapped[int]
    score: Mapped[float | None]
    note: Mapped[str]
    band: Mapped[dict[str, Any]]


class Decision(Base):
    """One run of the decision engine, with the policy it used and the risk of every shard."""

    __tablename__ = "decisions"
    id: Mapped[int] = mapped_column(primary_key=True)
    forecast_run_id: Mapped[int] = mapped_column(ForeignKey("forecast_runs.id"))
    decided_at: Mapped[datetime]
    policy: Mapped[dict[str, Any]]
    document: Mapped[dict[str, Any]]
    max_utilisation: Mapped[float]
    reactive_threshold: Mapped[float]
    notes: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


PLAN_STATES = ["proposed", "migrating", "done", "rejected", "aborted", "reversed"]


class Plan(Base):
    """A migration plan; ``document`` is the plan as `planning.plan` writes it."""

    __tablename__ = "plans"
    __table_args__ = (CheckConstraint(_one_of("state", PLAN_STATES), name="state"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    decision_id: Mapped[int] = mapped_column(ForeignKey("decisions.id"))
    state: Mapped[str] = mapped_column(default="proposed")
    source: Mapped[str] = mapped_column(ForeignKey("shards.name"))
    target: Mapped[str] = mapped_column(ForeignKey("shards.name"))
    buckets: Mapped[list[str]]
    excess_at: Mapped[datetime | None]
    document: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Migration(Base):
    """The execution of one plan."""

    __tablename__ = "migrations"
    __table_args__ = (
        CheckConstraint(_one_of("stage", [stage.value for stage in Stage]), name="stage"),
        CheckConstraint(f"bound BETWEEN 0 AND {SLOTS}", name="bound"),
        CheckConstraint("source <> target", name="two_shards"),
        CheckConstraint(f"({_one_of('stage', sorted(ENDS))}) = (finished_at IS NOT NULL)", name="end"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    plan_id: Mapped[int] = mapped_column(ForeignKey("plans.id"), unique=True)
    source: Mapped[str] = mapped_column(ForeignKey("shards.name"))
    target: Mapped[str] = mapped_column(ForeignKey("shards.name"))
    stage: Mapped[str] = mapped_column(default=Stage.PREFLIGHT.value)
    step: Mapped[int] = mapped_column(default=0)
    """Steps of the present stage that are finished (canary steps of write_redirect)."""
    bound: Mapped[int] = mapped_column(default=0)
    """What the routing map says. Ownership itself lives on the shards."""
    flip_no: Mapped[int] = mapped_column(BigInteger, default=0)
    """The last flip number handed out."""
    shadow_percent: Mapped[float] = mapped_column(default=0.0)
    waiting_for: Mapped[str | None]
    """'approval' while a person decides: the janitor leaves such a migration alone."""
    failure: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(default=0)
    """How many runners have held the lease."""
    flow_run_id: Mapped[str | None]
    lease_holder: Mapped[str | None]
    lease_token: Mapped[int] = mapped_column(BigInteger, default=0)
    lease_expires_at: Mapped[datetime | None]
    facts: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """What later stages need from earlier ones: fingerprints, sizes."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]


class MigrationBucket(Base):
    """A bucket of a migration. While it has not ended, no other migration may hold the bucket."""

    __tablename__ = "migration_buckets"
    __table_args__ = (
        Index("uq_migration_buckets_live", "bucket", unique=True, postgresql_where=text("live")),
    )
    migration_id: Mapped[int] = mapped_column(ForeignKey("migrations.id"), primary_key=True)
    bucket: Mapped[str] = mapped_column(primary_key=True)
    """By its name: a bucket may leave the fleet, with its tenant, and its migrations stay told."""
    live: Mapped[bool] = mapped_column(default=True)


class StageRun(Base):
    """One attempt at one step of one stage."""

    __tablename__ = "stage_runs"
    __table_args__ = (
        CheckConstraint(_one_of("outcome", ["running", "finished", "failed", "lost"]), name="outcome"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    migration_id: Mapped[int] = mapped_column(ForeignKey("migrations.id"), index=True)
    stage: Mapped[str]
    name: Mapped[str]
    outcome: Mapped[str] = mapped_column(default="running")
    started_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    finished_at: Mapped[datetime | None]
    detail: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))


class StepProgress(Base):
    """How far a step is, or was when it ended."""

    __tablename__ = "step_progress"
    migration_id: Mapped[int] = mapped_column(ForeignKey("migrations.id"), primary_key=True)
    step: Mapped[str] = mapped_column(primary_key=True)
    document: Mapped[dict[str, Any]]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Rate(Base):
    """What a migration measured of one kind of work. ``bytes`` as `planning.learnt_rates.Sample` counts them."""

    __tablename__ = "rates"
    __table_args__ = (
        CheckConstraint(_one_of("kind", RateKind), name="kind"),
        CheckConstraint("bytes > 0 AND seconds > 0 AND seconds < 'infinity'", name="positive"),
    )
    migration_id: Mapped[int] = mapped_column(ForeignKey("migrations.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(ForeignKey("shards.name"))
    target: Mapped[str] = mapped_column(ForeignKey("shards.name"))
    bytes: Mapped[int] = mapped_column(BigInteger)
    seconds: Mapped[float]
    bytes_per_s: Mapped[float] = mapped_column(Computed("bytes::double precision / seconds", persisted=True))
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


FLIP_STATES = ["intended", "opened", "cancelled"]


class Flip(Base):
    """The journal of one flip: the intent is here before the first server is touched."""

    __tablename__ = "flips"
    __table_args__ = (
        CheckConstraint(_one_of("state", FLIP_STATES), name="state"),
        CheckConstraint(f"from_bound BETWEEN 0 AND {SLOTS}", name="from_bound"),
        CheckConstraint(f"to_bound BETWEEN 0 AND {SLOTS}", name="to_bound"),
    )
    migration_id: Mapped[int] = mapped_column(ForeignKey("migrations.id"), primary_key=True)
    flip_no: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    from_bound: Mapped[int]
    to_bound: Mapped[int]
    state: Mapped[str] = mapped_column(default="intended")
    attempts: Mapped[int] = mapped_column(default=0)
    pause_ms: Mapped[float | None]
    intended_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    finished_at: Mapped[datetime | None]


class Resource(Base):
    """Something a migration made on a shard. Recorded before it is created, so it can always be removed."""

    __tablename__ = "resources"
    __table_args__ = (UniqueConstraint("migration_id", "shard", "kind", "name"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    migration_id: Mapped[int] = mapped_column(ForeignKey("migrations.id"))
    shard: Mapped[str]
    kind: Mapped[str]
    name: Mapped[str]
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    removed_at: Mapped[datetime | None]


class GateRun(Base):
    """The verdict of one set of checks: bound to a migration, a flip and an evidence file; it expires."""

    __tablename__ = "gate_runs"
    id: Mapped[int] = mapped_column(primary_key=True)
    migration_id: Mapped[int] = mapped_column(ForeignKey("migrations.id"), index=True)
    checkpoint: Mapped[str]
    flip_no: Mapped[int] = mapped_column(BigInteger)
    passed: Mapped[bool]
    evaluated: Mapped[int]
    expected: Mapped[int]
    failed: Mapped[int]
    evidence_sha256: Mapped[str]
    verdict: Mapped[dict[str, Any]]
    made_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    expires_at: Mapped[datetime]


APPROVAL_STATES = ["pending", "approved", "rejected", "superseded"]


class Approval(Base):
    """One attempt to get a person's word for one flip. Decided once; a new attempt is a new row."""

    __tablename__ = "approvals"
    __table_args__ = (
        CheckConstraint(_one_of("state", APPROVAL_STATES), name="state"),
        CheckConstraint(
            "(state IN ('approved', 'rejected')) = (decided_at IS NOT NULL AND approver <> '')",
            name="decided",
        ),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    migration_id: Mapped[int] = mapped_column(ForeignKey("migrations.id"), index=True)
    flip_no: Mapped[int] = mapped_column(BigInteger)
    gate_run_id: Mapped[int | None] = mapped_column(ForeignKey("gate_runs.id"))
    state: Mapped[str] = mapped_column(default="pending")
    approver: Mapped[str] = mapped_column(default="")
    comment: Mapped[str] = mapped_column(default="")
    requested_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    decided_at: Mapped[datetime | None]


class ShadowReads(Base):
    """What routers saw when they read the same on both sides, added up per flush."""

    __tablename__ = "shadow_reads"
    id: Mapped[int] = mapped_column(primary_key=True)
    migration_id: Mapped[int] = mapped_column(ForeignKey("migrations.id"), index=True)
    router: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    reads: Mapped[int]
    matches: Mapped[int]
    lags: Mapped[int]
    mismatches: Mapped[int]
    dropped: Mapped[int]
    latency: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))


class Confirmation(Base):
    """What a finished migration did. A trigger refuses every later change of the row."""

    __tablename__ = "confirmations"
    migration_id: Mapped[int] = mapped_column(ForeignKey("migrations.id"), primary_key=True)
    document: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
