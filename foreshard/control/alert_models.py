"""The table of alerts in the control database: what has begun and ended, and what of it was told."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from foreshard.alerts.alert import AlertKind
from foreshard.control.models import Base, one_of


class AlertRow(Base):
    """One alert from its onset to its end. While it lasts there is no other with its key."""

    __tablename__ = "alerts"
    __table_args__ = (
        CheckConstraint(one_of("kind", AlertKind), name="kind"),
        CheckConstraint("end_told_at IS NULL OR (ended_at IS NOT NULL AND told_at IS NOT NULL)", name="told"),
        Index("uq_alerts_lasting", "key", unique=True, postgresql_where=text("ended_at IS NULL")),
        Index("ix_alerts_untold", "id", postgresql_where=text("end_told_at IS NULL")),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str]
    kind: Mapped[str]
    document: Mapped[dict[str, Any]]
    """What is told of it, in the words of its onset."""
    began_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    ended_at: Mapped[datetime | None]
    told_at: Mapped[datetime | None]
    end_told_at: Mapped[datetime | None]
