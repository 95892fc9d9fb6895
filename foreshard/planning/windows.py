"""When a migration may run: maintenance windows of the week, and blackouts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from foreshard.errors import InvalidInput

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
NAMES = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
REMEDY = "Write days and times like 'Mon-Fri 22:00-06:00', 'Sat,Sun 00:00-24:00' or 'daily 01:00-05:00'."
_FORM = re.compile(r"(\S+)\s+(\d{1,2}):(\d\d)\s*-\s*(\d{1,2}):(\d\d)")
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Blackout:
    """From ``starts_at`` until ``ends_at`` (UTC) no migration may run."""

    name: str
    starts_at: datetime
    ends_at: datetime


@dataclass(frozen=True)
class Window:
    """A maintenance window of the week, by the clock on the wall of the fleet's time zone.

    ``days``: 0 is Monday; ``opens`` and ``closes`` count from the start of each of them, ``closes`` beyond 24 h is on
    the day after.
    """

    text: str
    days: frozenset[int]
    opens: timedelta
    closes: timedelta

    def on(self, day: date) -> tuple[datetime, datetime] | None:
        """From when until when it is open if it opens on that day; by the wall, without a time zone."""
        if day.weekday() not in self.days:
            return None
        midnight = datetime.combine(day, time.min)
        return midnight + self.opens, midnight + self.closes


@dataclass(frozen=True)
class Span:
    """Time in which migrations may run, UTC. ``opened``: what began or ended at ``starts_at``, in words, or ''."""

    starts_at: datetime
    ends_at: datetime
    opened: str = ""

    @property
    def length(self) -> timedelta:
        """How long it is."""
        return self.ends_at - self.starts_at


@dataclass(frozen=True)
class Windows:
    """All maintenance windows; without any, every time is allowed."""

    windows: tuple[Window, ...] = ()

    def openings(self, since: datetime, until: datetime, timezone: ZoneInfo) -> tuple[Span, ...]:
        """When at least one of them is open between two moments, in order; those that touch are one.

        A window is open while a clock on the wall shows a time in it: an hour that the clock goes through twice counts
        twice, one that it leaves out not at all.
        """
        if not self.windows:
            return (Span(since, until),) if since < until else ()
        found: list[Span] = []
        for begin, end, offset in _constant_offset(since, until, timezone):
            day = (begin + offset).date() - _DAY  # one that crosses midnight may have opened the day before
            while day <= (end + offset).date():
                found += _open_on(day, self.windows, begin, end, offset)
                day += _DAY
        return tuple(_joined(found))


def parse_windows(texts: Iterable[str]) -> Windows:
    """Windows of the week from texts like ``Mon-Fri 22:00-06:00``; days are those on which they open.

    Raises ``InvalidInput`` (field ``windows``) for one that cannot be read.
    """
    return Windows(tuple(_window(text) for text in texts))


def allowed(
    windows: Windows, blackouts: Sequence[Blackout], since: datetime, until: datetime, timezone: ZoneInfo
) -> tuple[Span, ...]:
    """The time between two moments that lies in a window and outside every blackout, in order."""
    free = list(windows.openings(since, until, timezone))
    for one in blackouts:
        left: list[Span] = []
        for span in free:
            if one.ends_at <= span.starts_at or span.ends_at <= one.starts_at:
                left.append(span)
                continue
            if span.starts_at < one.starts_at:
                left.append(replace(span, ends_at=one.starts_at))
            if one.ends_at < span.ends_at:
                left.append(Span(one.ends_at, span.ends_at, f"the blackout {one.name} ends"))
        free = left
    return tuple(free)


def _window(text: str) -> Window:
    form = _FORM.fullmatch(text.strip())
    if form is None:
        raise InvalidInput("windows", f"{text!r} is not days and times.", remedy=REMEDY)
    days, *numbers = form.groups()
    opens, closes = (_time(text, *pair) for pair in (numbers[:2], numbers[2:]))
    if opens == closes:
        raise InvalidInput(
            "windows", f"{text!r} opens and closes at the same time.", remedy="A whole day is 00:00-24:00."
        )
    if opens >= _DAY:
        raise InvalidInput("windows", f"{text!r} opens at 24:00.", remedy="Say 00:00 of the next day.")
    return Window(text.strip(), _days(text, days), opens, closes if closes > opens else closes + _DAY)


def _time(text: str, hours: str, minutes: str) -> timedelta:
    found = timedelta(hours=int(hours), minutes=int(minutes))
    if int(minutes) > 59 or found > _DAY:
        raise InvalidInput("windows", f"{text!r}: {hours}:{minutes} is no time of day.", remedy=REMEDY)
    return found


def _days(text: str, days: str) -> frozenset[int]:
    if days.lower() == "daily":
        return frozenset(range(7))
    found: set[int] = set()
    for part in days.split(","):
        first, dash, last = part.partition("-")
        begin = _day(text, first)
        end = _day(text, last) if dash else begin
        found |= {day % 7 for day in range(begin, end + 1 if end >= begin else end + 8)}
    return frozenset(found)


def _day(text: str, name: str) -> int:
    for names in (DAYS, NAMES):
        if name.capitalize() in names:
            return names.index(name.capitalize())
    raise InvalidInput("windows", f"{text!r}: {name!r} is no day of the week.", remedy=REMEDY)


def _constant_offset(
    since: datetime, until: datetime, timezone: ZoneInfo
) -> Iterator[tuple[datetime, datetime, timedelta]]:
    """The time between two moments, cut where the zone's offset changes: beginning, end, offset."""
    begin = since.astimezone(UTC)
    until = until.astimezone(UTC)
    while begin < until:
        offset, end = _offset(begin, timezone), begin
        while end < until and _offset(end, timezone) == offset:
            last, end = end, min(end + _DAY / 2, until)
        if _offset(end, timezone) != offset:
            while end - last > timedelta(seconds=1):
                middle = last + (end - last) / 2
                last, end = (middle, end) if _offset(middle, timezone) == offset else (last, middle)
            end = end.replace(microsecond=0)  # clocks are changed at whole seconds
        yield begin, end, offset
        begin = end


def _offset(moment: datetime, timezone: ZoneInfo) -> timedelta:
    return moment.astimezone(timezone).utcoffset() or timedelta()


def _open_on(
    day: date, windows: Iterable[Window], begin: datetime, end: datetime, offset: timedelta
) -> Iterator[Span]:
    for window in windows:
        hours = window.on(day)
        if hours is None:
            continue
        opens, closes = (moment.replace(tzinfo=UTC) - offset for moment in hours)
        if opens < end and closes > begin:
            opened = f"the window {window.text} opens" if opens >= begin else ""
            yield Span(max(opens, begin), min(closes, end), opened)


def _joined(spans: Iterable[Span]) -> Iterator[Span]:
    current: Span | None = None
    for span in sorted(spans, key=lambda one: (one.starts_at, one.ends_at)):
        if current is not None and span.starts_at <= current.ends_at:
            current = replace(current, ends_at=max(current.ends_at, span.ends_at))
            continue
        if current is not None:
            yield current
        current = span
    if current is not None:
        yield current
