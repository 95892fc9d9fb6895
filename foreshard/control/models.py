"""The tables of the control database about the fleet: shards, buckets, routers, forecasts, decisions, plans.

Every lifecycle has its CHECK constraint here and its transitions in one place in the library: nothing invents a state.
The tables about migrations are in `migration_models`, those about load in `load_models`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Integer, MetaData, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, REAL
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from foreshard.topology.keys import KeyType


def one_of(column: str, values: Iterable[str]) -> str:
    """The condition of a CHECK constraint: no other value."""
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
        list[int]: ARRAY(Integer),
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
    shadow_role: Mapped[str | None]
    """The role that reads copies which do not serve yet. Without one no shadow reads are made."""


SHARD_STATES = ["active", "draining", "removed"]


class Shard(Base):
    """One PostgreSQL primary. ``dsn`` never holds a password. One that was removed stays for the history's sake."""

    __tablename__ = "shards"
    __table_args__ = (CheckConstraint(one_of("state", SHARD_STATES), name="state"),)
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


LONGEST_LEASE_S = 300
"""A first flip waits as long as that for a router that was cut off."""


class RegisteredRouter(Base):
    """A router that reads the map. Until its lease is over it may believe the map of ``epoch``."""

    __tablename__ = "routers"
    __table_args__ = (
        CheckConstraint("pid > 0", name="pid"),
        CheckConstraint(f"lease_s > 0 AND lease_s <= {LONGEST_LEASE_S}", name="lease_s"),
        CheckConstraint("epoch > 0", name="epoch"),
    )
    id: Mapped[UUID] = mapped_column(primary_key=True)
    application: Mapped[str]
    host: Mapped[str]
    pid: Mapped[int]
    lease_s: Mapped[float]
    epoch: Mapped[int] = mapped_column(BigInteger)
    """Of the map that it has in use."""
    registered_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    heartbeat_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class ForecastRun(Base):
    """One run of the forecast flow."""

    __tablename__ = "forecast_runs"
    __table_args__ = (CheckConstraint("step_minutes > 0", name="step_minutes"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    issued_at: Mapped[datetime]
    horizon_hours: Mapped[float]
    step_minutes: Mapped[int] = mapped_column(server_default=text("60"))
    live_samples_used: Mapped[int]
    series: Mapped[int]
    seconds: Mapped[float]
    metrics: Mapped[list[str] | None]
    """The only ones that were asked for; NULL is all of the fleet, which a decision needs."""
    parameters: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """What it was run with."""
    counts: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """By model, of how many series it is the champion."""
    notes: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    """What went otherwise than it should have."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ForecastBand(Base):
    """The forecast of one series: of each step, from ``starts_at``, the quantiles .05 .10 .25 .50 .75 .90 .95."""

    __tablename__ = "forecast_bands"
    __table_args__ = (
        CheckConstraint(
            "array_length(quantiles, 1) > 0 AND array_length(quantiles, 2) = 7", name="quantiles"
        ),
        CheckConstraint("array_length(peak, 1) = 17", name="peak"),
    )
    run_id: Mapped[int] = mapped_column(ForeignKey("forecast_runs.id", ondelete="CASCADE"), primary_key=True)
    shard: Mapped[str] = mapped_column(primary_key=True, default="")
    bucket: Mapped[str] = mapped_column(primary_key=True, default="")
    metric: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str]
    weights: Mapped[dict[str, Any]]
    scores: Mapped[dict[str, Any]]
    coverage: Mapped[float | None]
    trained_from: Mapped[datetime | None]
    trained_to: Mapped[datetime | None]
    points: Mapped[int]
    note: Mapped[str]
    starts_at: Mapped[datetime]
    quantiles: Mapped[list[list[float]]] = mapped_column(ARRAY(REAL, dimensions=2))
    peak: Mapped[list[float]] = mapped_column(ARRAY(REAL))
    """Quantiles of the largest load of the whole window, at `forecast.peak.PEAK_LEVELS`."""


class ForecastFit(Base):
    """The last known good fit of a global model, in the model's own form."""

    __tablename__ = "forecast_fits"
    name: Mapped[str] = mapped_column(primary_key=True)
    step_minutes: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    fitted_at: Mapped[datetime]
    trained_from: Mapped[datetime]
    trained_to: Mapped[datetime]
    series: Mapped[int]
    payload: Mapped[bytes]


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
    plan_ids: Mapped[list[int]] = mapped_column(server_default=text("'{}'"))
    """In the order of its plans; those that an earlier decision had made are among them."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


PLAN_STATES = ["proposed", "migrating", "done", "rejected", "aborted", "reversed", "expired"]
CLOSED = ["rejected", "expired"]
"""Those in which a plan ends before it is a migration. A trigger refuses every later change of the row."""


class Plan(Base):
    """A migration plan; ``document`` is the plan as `planning.plan` writes it.

    ``decision_id``: the newest decision that holds it; what the one before said of it is in that one's document.
    """

    __tablename__ = "plans"
    __table_args__ = (
        CheckConstraint(one_of("state", PLAN_STATES), name="state"),
        CheckConstraint(
            f"({one_of('state', CLOSED)}) = (closed_at IS NOT NULL AND closed_by IS NOT NULL)", name="closed"
        ),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    decision_id: Mapped[int] = mapped_column(ForeignKey("decisions.id"))
    state: Mapped[str] = mapped_column(default="proposed")
    source: Mapped[str] = mapped_column(ForeignKey("shards.name"))
    target: Mapped[str] = mapped_column(ForeignKey("shards.name"))
    buckets: Mapped[list[str]]
    excess_at: Mapped[datetime | None]
    document: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    not_before: Mapped[datetime | None]
    """Its planned start, fleet clock. Without one it starts when a person asks for it."""
    after: Mapped[list[int]] = mapped_column(server_default=text("'{}'"))
    """Plans that must have ended first."""
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    """How many runs were started for it."""
    claimed_at: Mapped[datetime | None]
    """When the last of them was."""
    flow_run_id: Mapped[str | None]
    recheck: Mapped[dict[str, Any] | None]
    """Of one that waits for approval: what the newest decision says of it."""
    reason: Mapped[str | None]
    closed_by: Mapped[str | None]
    closed_at: Mapped[datetime | None]


POLICY_LAYERS = ["settings", "variable", "parameters"]


class PolicyChange(Base):
    """A change of the decision policy. A trigger refuses every change of the row."""

    __tablename__ = "policy_changes"
    __table_args__ = (
        CheckConstraint(one_of("layer", POLICY_LAYERS), name="layer"),
        CheckConstraint("who <> ''", name="who"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    layer: Mapped[str]
    who: Mapped[str]
    before: Mapped[dict[str, Any]]
    after: Mapped[dict[str, Any]]
    given: Mapped[dict[str, Any]]
    """All that the layer gives since then."""
