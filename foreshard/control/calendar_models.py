"""The tables of the calendar."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from foreshard.control.models import Base, one_of
from foreshard.forecast.calendar import EventKind

SOURCES = ["hand", "form", "import"]


class CalendarEvent(Base):
    """Something that history does not show and that changes load, a promotion, a single holiday; or a blackout."""

    __tablename__ = "events"
    __table_args__ = (
        CheckConstraint("ends_at > starts_at", name="order"),
        CheckConstraint("effect > 0 AND effect < 'infinity'", name="effect"),
        CheckConstraint(one_of("kind", EventKind), name="kind"),
        CheckConstraint("kind <> 'promotion' OR effect IS NOT NULL", name="promotion"),
        CheckConstraint(
            "kind <> 'blackout' OR (effect IS NULL AND shards IS NULL AND buckets IS NULL)", name="blackout"
        ),
        CheckConstraint(one_of("source", SOURCES), name="source"),
        Index("uq_events_name", "name", "starts_at", unique=True, postgresql_where=text("uid = ''")),
        Index("uq_events_uid", "uid", "recurrence", unique=True, postgresql_where=text("uid <> ''")),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    effect: Mapped[float | None]
    shards: Mapped[list[str] | None]
    buckets: Mapped[list[str] | None]
    kind: Mapped[str] = mapped_column(server_default=text("'promotion'"))
    source: Mapped[str] = mapped_column(server_default=text("'hand'"))
    uid: Mapped[str] = mapped_column(default="", server_default=text("''"))
    """Of an iCalendar file; '' for all others."""
    recurrence: Mapped[str] = mapped_column(default="", server_default=text("''"))
    """Which of the recurrences of ``uid`` it is."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class HolidayCalendar(Base):
    """Whose public holidays the fleet's users keep; they recur by themselves."""

    __tablename__ = "holiday_calendars"
    __table_args__ = (CheckConstraint("effect > 0 AND effect < 'infinity'", name="effect"),)
    country: Mapped[str] = mapped_column(primary_key=True)
    subdivision: Mapped[str] = mapped_column(primary_key=True)
    effect: Mapped[float | None]
    shards: Mapped[list[str] | None]
    buckets: Mapped[list[str] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
