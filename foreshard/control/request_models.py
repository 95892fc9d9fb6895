"""The tables of the control database about steering: what people asked of migrations, and how their streams are."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from foreshard.control.models import Base, one_of
from foreshard.migration.lifecycle import Stage
from foreshard.migration.requests import OUTCOMES, Ask, Way


class Request(Base):
    """What somebody asked of a migration. Triggers refuse every later change but the settling."""

    __tablename__ = "requests"
    __table_args__ = (
        CheckConstraint(one_of("kind", Ask), name="kind"),
        CheckConstraint(one_of("way", Way), name="way"),
        CheckConstraint(one_of("stage", Stage), name="stage"),
        CheckConstraint("btrim(asked_by) <> ''", name="asked_by"),
        CheckConstraint("held_at IS NULL OR kind = 'pause'", name="held"),
        CheckConstraint(
            "(outcome IS NULL) = (settled_at IS NULL) AND (outcome IS NULL) = (settled_by IS NULL)",
            name="settled",
        ),
        CheckConstraint(
            "outcome IS NULL OR "
            + " OR ".join(
                f"(kind = '{kind}' AND {one_of('outcome', sorted(allowed))})"
                for kind, allowed in OUTCOMES.items()
            ),
            name="outcome",
        ),
        Index("uq_requests_open", "migration_id", unique=True, postgresql_where=text("outcome IS NULL")),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    migration_id: Mapped[int] = mapped_column(ForeignKey("migrations.id"), index=True)
    kind: Mapped[str]
    asked_by: Mapped[str]
    way: Mapped[str]
    comment: Mapped[str] = mapped_column(default="", server_default=text("''"))
    stage: Mapped[str]
    """Where the migration stood then."""
    carrier: Mapped[str | None]
    """The flow run that carries it out; without one, whoever drives the migration does."""
    asked_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    held_at: Mapped[datetime | None]
    """Since when the migration stands still for this pause."""
    outcome: Mapped[str | None]
    settled_at: Mapped[datetime | None]
    settled_by: Mapped[str | None]
    settlement: Mapped[str] = mapped_column(default="", server_default=text("''"))
    """In words."""


class StreamReading(Base):
    """The newest look at a migration's streams and room, by whoever drives it, else by the janitor."""

    __tablename__ = "stream_readings"
    migration_id: Mapped[int] = mapped_column(ForeignKey("migrations.id"), primary_key=True)
    read_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    forward_lag_bytes: Mapped[int | None] = mapped_column(BigInteger)
    forward_lag_s: Mapped[float | None]
    reverse_lag_bytes: Mapped[int | None] = mapped_column(BigInteger)
    reverse_lag_s: Mapped[float | None]
    source_wal_bytes: Mapped[int | None] = mapped_column(BigInteger)
    target_wal_bytes: Mapped[int | None] = mapped_column(BigInteger)
    wal_budget_bytes: Mapped[int] = mapped_column(BigInteger)
