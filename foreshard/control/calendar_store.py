"""The calendar in the control database: declared events, and countries whose holidays recur."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from zoneinfo import ZoneInfo

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from foreshard.calendar.entry import CalendarFile, Entry
from foreshard.control.calendar_models import CalendarEvent, HolidayCalendar
from foreshard.control.engine import ControlDatabase
from foreshard.control.models import Bucket, Shard
from foreshard.errors import InvalidInput, NotFound
from foreshard.forecast.calendar import Event, EventKind
from foreshard.forecast.holiday import HolidayRegion
from foreshard.planning.windows import Blackout

Source = Literal["hand", "form", "import"]


@dataclass(frozen=True)
class EventRecord:
    """A stored event. ``uid`` and ``recurrence`` are of an iCalendar file, '' for others."""

    id: int
    event: Event
    source: str
    uid: str
    recurrence: str
    updated_at: datetime


@dataclass(frozen=True)
class Imported:
    """What a file changes, or would change: the events' numbers are of no interest."""

    added: tuple[Event, ...]
    changed: tuple[Event, ...]
    removed: tuple[Event, ...]
    unchanged: int


class CalendarStore:
    """Reads and writes the calendar. Shards and buckets that an event names must exist (``InvalidInput``)."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control

    def all(self) -> tuple[EventRecord, ...]:
        """Every declared event, by start."""
        with self._control.transaction() as session:
            rows = session.scalars(select(CalendarEvent).order_by(CalendarEvent.starts_at, CalendarEvent.id))
            return tuple(_record(row) for row in rows)

    def get(self, number: int) -> EventRecord:
        """One event. Raises ``NotFound``."""
        with self._control.transaction() as session:
            return _record(_row(session, number))

    def events(self, timezone: ZoneInfo, since: datetime, until: datetime) -> tuple[Event, ...]:
        """All that changes load from ``since`` until ``until``, holidays too, by start: what a forecast is told."""
        declared = [one.event for one in self.all() if one.event.kind is not EventKind.BLACKOUT]
        found = [one for one in declared if one.starts_at < until and one.ends_at > since]
        for region in self.regions():
            found += region.events(timezone, since, until)
        return tuple(sorted(found, key=lambda one: (one.starts_at, one.name)))

    def blackouts(self, since: datetime, until: datetime) -> tuple[Blackout, ...]:
        """When no migration may run, from ``since`` until ``until``, by start."""
        with self._control.transaction() as session:
            rows = session.scalars(
                select(CalendarEvent)
                .where(
                    CalendarEvent.kind == EventKind.BLACKOUT.value,
                    CalendarEvent.starts_at < until,
                    CalendarEvent.ends_at > since,
                )
                .order_by(CalendarEvent.starts_at, CalendarEvent.id)
            )
            return tuple(
                Blackout(row.name, row.starts_at.astimezone(UTC), row.ends_at.astimezone(UTC)) for row in rows
            )

    def add(self, event: Event, source: Source = "hand") -> EventRecord:
        """Store a new event. Raises ``InvalidInput`` (field ``name``) if one of that name has the same start."""
        with self._control.transaction() as session:
            _begin(session)
            check_scope(session, event.shards, event.buckets)
            _refuse_twin(session, event, None)
            row = CalendarEvent(source=source)
            _put(row, event)
            session.add(row)
            session.flush()
            session.refresh(row)
            return _record(row)

    def change(self, number: int, event: Event, source: Source = "hand") -> EventRecord:
        """Replace an event; ``source`` is who did. Raises ``NotFound``, or ``InvalidInput`` as `add` does."""
        with self._control.transaction() as session:
            _begin(session)
            row = _row(session, number)
            check_scope(session, event.shards, event.buckets)
            if not row.uid:
                _refuse_twin(session, event, number)
            row.source = source
            _put(row, event)
            session.flush()
            session.refresh(row)
            return _record(row)

    def remove(self, number: int) -> EventRecord:
        """Remove an event and return what it was. Raises ``NotFound``."""
        with self._control.transaction() as session:
            row = _row(session, number)
            session.delete(row)
            return _record(row)

    def take(
        self, file: CalendarFile, since: datetime, until: datetime, *, dry_run: bool = False
    ) -> Imported:
        """Store what a file says; the same file again changes nothing.

        Events with a uid are told by it, others by name and start. Recurrences of the file's uids that are stored,
        touch the time from ``since`` until ``until`` and are no longer in the file are removed.

        Raises ``InvalidInput`` for an unknown shard or bucket, before anything is stored.
        """
        added: list[Event] = []
        changed: list[Event] = []
        unchanged = 0
        with self._control.transaction() as session:
            _begin(session)
            for entry in file.entries:
                check_scope(session, entry.event.shards, entry.event.buckets, f"event {entry.event.name}: ")
            gone = _no_longer_there(session, file, since, until)
            removed = tuple(_record(row).event for row in gone)
            for row in gone:
                session.delete(row)
            session.flush()
            for entry in file.entries:
                stored = _stored(session, entry)
                if stored is not None and _record(stored).event == entry.event:
                    unchanged += 1
                    continue
                (added if stored is None else changed).append(entry.event)
                row = stored or CalendarEvent(uid=entry.uid, recurrence=entry.recurrence)
                row.source = "import"
                _put(row, entry.event)
                session.add(row)
                session.flush()
            if dry_run:
                session.rollback()
        return Imported(tuple(added), tuple(changed), removed, unchanged)

    def regions(self) -> tuple[HolidayRegion, ...]:
        """Whose holidays are kept."""
        with self._control.transaction() as session:
            rows = session.scalars(
                select(HolidayCalendar).order_by(HolidayCalendar.country, HolidayCalendar.subdivision)
            )
            return tuple(
                HolidayRegion(row.country, row.subdivision, row.effect, _set(row.shards), _set(row.buckets))
                for row in rows
            )

    def put_region(self, region: HolidayRegion) -> None:
        """Keep the holidays of a country or a part of it; replaces what was said of the same."""
        with self._control.transaction() as session:
            check_scope(session, region.shards, region.buckets)
            session.merge(
                HolidayCalendar(
                    country=region.country,
                    subdivision=region.subdivision,
                    effect=region.effect,
                    shards=_list(region.shards),
                    buckets=_list(region.buckets),
                )
            )

    def remove_region(self, region: HolidayRegion) -> None:
        """Keep them no longer. Raises ``NotFound``."""
        with self._control.transaction() as session:
            row = session.get(HolidayCalendar, (region.country, region.subdivision))
            if row is None:
                raise NotFound(
                    f"The holidays of {region} are not kept.",
                    remedy="`foreshard calendar list` shows whose are.",
                )
            session.delete(row)


def check_scope(
    session: Session, shards: Iterable[str] | None, buckets: Iterable[str] | None, of: str = ""
) -> None:
    """Raises ``InvalidInput`` (field ``shards`` or ``buckets``) that names the first unknown one."""
    for field, named, known in (
        ("shards", shards, select(Shard.name).where(Shard.state != "removed")),
        ("buckets", buckets, select(Bucket.name)),
    ):
        if named is None:
            continue
        unknown = sorted(set(named) - set(session.scalars(known)))
        if unknown:
            raise InvalidInput(
                field,
                f"{of}there is no {field[:-1]} {unknown[0]!r}.",
                remedy="`foreshard shard list` shows the shards, `foreshard status --json` the buckets on them.",
            )


def _begin(session: Session) -> None:
    """Two writers at once would both find that an event is not there yet."""
    session.execute(text("LOCK TABLE events IN SHARE ROW EXCLUSIVE MODE"))


def _row(session: Session, number: int) -> CalendarEvent:
    row = session.get(CalendarEvent, number)
    if row is None:
        raise NotFound(
            f"There is no event {number}.", remedy="`foreshard calendar list` shows their numbers."
        )
    return row


def _refuse_twin(session: Session, event: Event, number: int | None) -> None:
    twin = session.scalar(
        select(CalendarEvent.id).where(
            CalendarEvent.name == event.name,
            CalendarEvent.starts_at == event.starts_at,
            CalendarEvent.uid == "",
            CalendarEvent.id != (number or 0),
        )
    )
    if twin is not None:
        raise InvalidInput(
            "name",
            f"event {twin} has the same name and start.",
            remedy=f"Change that one: foreshard calendar edit {twin}.",
        )


def _stored(session: Session, entry: Entry) -> CalendarEvent | None:
    query = select(CalendarEvent).where(
        CalendarEvent.uid == entry.uid, CalendarEvent.recurrence == entry.recurrence
    )
    if not entry.uid:
        query = query.where(
            CalendarEvent.name == entry.event.name, CalendarEvent.starts_at == entry.event.starts_at
        )
    return session.scalar(query)


def _no_longer_there(
    session: Session, file: CalendarFile, since: datetime, until: datetime
) -> list[CalendarEvent]:
    present = {(entry.uid, entry.recurrence) for entry in file.entries}
    rows = session.scalars(
        select(CalendarEvent).where(
            CalendarEvent.uid.in_(file.uids), CalendarEvent.starts_at < until, CalendarEvent.ends_at > since
        )
    )
    return [row for row in rows if (row.uid, row.recurrence) not in present]


def _put(row: CalendarEvent, event: Event) -> None:
    row.name, row.kind = event.name, event.kind.value
    row.starts_at, row.ends_at, row.effect = event.starts_at, event.ends_at, event.effect
    row.shards, row.buckets = _list(event.shards), _list(event.buckets)
    row.updated_at = func.now()


def _record(row: CalendarEvent) -> EventRecord:
    event = Event(
        name=row.name,
        starts_at=row.starts_at.astimezone(UTC),
        ends_at=row.ends_at.astimezone(UTC),
        effect=row.effect,
        shards=_set(row.shards),
        buckets=_set(row.buckets),
        kind=EventKind(row.kind),
    )
    return EventRecord(row.id, event, row.source, row.uid, row.recurrence, row.updated_at)


def _list(names: frozenset[str] | None) -> list[str] | None:
    return None if names is None else sorted(names)


def _set(names: list[str] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)
