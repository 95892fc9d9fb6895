"""The tables of the control database about migrations: stages, flips, gates, and what they made."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Computed,
    ForeignKey,
    Index,
    String,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from foreshard.control.models import Base, one_of
from foreshard.migration.lifecycle import ENDS, Stage
from foreshard.planning.learnt_rates import RateKind
from foreshard.topology.keys import SLOTS


class Migration(Base):
    """The execution of one plan."""

    __tablename__ = "migrations"
    __table_args__ = (
        CheckConstraint(one_of("stage", [stage.value for stage in Stage]), name="stage"),
        CheckConstraint(f"bound BETWEEN 0 AND {SLOTS}", name="bound"),
        CheckConstraint("source <> target", name="two_shards"),
        CheckConstraint(f"({one_of('stage', sorted(ENDS))}) = (finished_at IS NOT NULL)", name="end"),
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
    """'approval' while a person decides, 'resume' while it is paused: the janitor leaves such a migration alone."""
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
        CheckConstraint(
            one_of("outcome", ["running", "finished", "failed", "lost", "interrupted"]), name="outcome"
        ),
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
        CheckConstraint(one_of("kind", RateKind), name="kind"),
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
        CheckConstraint(one_of("state", FLIP_STATES), name="state"),
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
    unsettled: Mapped[int] = mapped_column(server_default=text("0"))
    failures: Mapped[int] = mapped_column(server_default=text("0"))
    dropped: Mapped[int]
    latency: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    differences: Mapped[list[str]] = mapped_column(ARRAY(String), server_default=text("'{}'"))
    """In words, without any value of a row."""


class Confirmation(Base):
    """What a finished migration did. A trigger refuses every later change of the row."""

    __tablename__ = "confirmations"
    migration_id: Mapped[int] = mapped_column(ForeignKey("migrations.id"), primary_key=True)
    document: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Verification(Base):
    """One verification of a migration, or of a bucket. Its verdict is written once."""

    __tablename__ = "verifications"
    __table_args__ = (
        CheckConstraint("migration_id IS NOT NULL OR bucket IS NOT NULL", name="of_something"),
        CheckConstraint("(finished_at IS NULL) = (passed IS NULL)", name="verdict"),
        CheckConstraint("finished_at IS NULL OR problem IS NULL", name="problem"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    migration_id: Mapped[int | None] = mapped_column(ForeignKey("migrations.id"), index=True)
    bucket: Mapped[str | None]
    """One of the migration's alone; without a migration, one that does not move."""
    made_by: Mapped[str]
    begun_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    finished_at: Mapped[datetime | None]
    passed: Mapped[bool | None]
    problem: Mapped[str | None]
    """Why it could not be made."""
    findings: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'"))
    seen: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))


class Repair(Base):
    """One repair of rows, by whose word."""

    __tablename__ = "repairs"
    __table_args__ = (CheckConstraint("said_by <> ''", name="said_by"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    migration_id: Mapped[int] = mapped_column(ForeignKey("migrations.id"), index=True)
    said_by: Mapped[str]
    begun_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class RepairedRows(Base):
    """What was to be done, or was done, with some rows of a repair. A trigger refuses every later change."""

    __tablename__ = "repaired_rows"
    __table_args__ = (
        CheckConstraint(
            one_of("what", ["intended", "inserted", "updated", "deleted", "equal", "left"]), name="what"
        ),
    )
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    repair_id: Mapped[int] = mapped_column(ForeignKey("repairs.id"), index=True)
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    shard: Mapped[str]
    bucket: Mapped[str]
    table: Mapped[str]
    what: Mapped[str]
    keys: Mapped[list[str]]
    why: Mapped[str] = mapped_column(server_default=text("''"))
