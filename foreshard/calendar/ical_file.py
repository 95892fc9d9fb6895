"""Events from an iCalendar file (RFC 5545), those that recur with all their recurrences in a window of time.

The effect is the event's property X-FORESHARD-EFFECT, else the one given for the whole file. An event of the category
HOLIDAY is a holiday and needs none, one of the category BLACKOUT is a blackout and has none. X-FORESHARD-SHARDS and
X-FORESHARD-BUCKETS hold names.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import recurring_ical_events
from icalendar import Calendar

from foreshard.calendar.entry import CalendarFile, Entry, names, parse_effect, placed
from foreshard.calendar.moment import to_utc
from foreshard.errors import InvalidInput
from foreshard.forecast.calendar import Event, EventKind

MOST = 10_000
"""Recurrences that a file may have in the window."""

_CATEGORIES = (EventKind.BLACKOUT, EventKind.HOLIDAY)


def read_ical(
    file: Path, timezone: ZoneInfo, since: datetime, until: datetime, effect: float | None = None
) -> CalendarFile:
    """The events that touch the time from ``since`` until ``until``; those that were cancelled are left out.

    Times without a zone, and whole days, are ``timezone``'s.

    Raises ``InvalidInput`` that names file, event and field.
    """
    try:
        calendar = Calendar.from_ical(file.read_bytes())
        events = list(calendar.walk("VEVENT"))
        for event in events:
            _check_rule(file, event)
            _check_order(file, event, timezone)
        problems = [f"{name}: {why}" for event in events for name, why in event.errors]
        found = list(islice(recurring_ical_events.of(calendar).between(since, until), MOST + 1))
    except InvalidInput:
        raise
    except (
        Exception
    ) as broken:  # the libraries raise ValueError, KeyError, TypeError and their own, as it comes
        raise InvalidInput(
            str(file), f"is not a calendar that can be read: {broken}.", remedy="Export it anew as .ics."
        ) from None
    if problems:
        raise InvalidInput(str(file), f"{problems[0]}.", remedy="Correct it, or export the calendar anew.")
    if len(found) > MOST:
        raise InvalidInput(
            str(file), f"has more than {MOST:,} events in that time.", remedy="Shorten the time."
        )
    for event in events:
        if not str(event.get("UID", "")):
            raise InvalidInput(
                f"{file}: {event.get('SUMMARY', 'an event')}: UID",
                "is missing: it could not be told when it comes again.",
                remedy="Export the calendar from where it is kept.",
            )
    entries = [_entry(file, one, timezone, effect) for one in found if _status(one) != "CANCELLED"]
    return CalendarFile(
        tuple(sorted(entries, key=lambda one: (one.event.starts_at, one.uid))),
        frozenset(str(event["UID"]) for event in events),
    )


def _check_rule(file: Path, event: Any) -> None:
    """An event every second would be expanded for ever."""
    rules = event.get("RRULE", [])
    for rule in rules if isinstance(rules, list) else [rules]:
        if {str(one).upper() for one in rule.get("FREQ", [])} & {"SECONDLY", "MINUTELY", "HOURLY"}:
            raise InvalidInput(
                f"{file}: {event.get('SUMMARY', event.get('UID'))}: RRULE",
                "recurs more often than once a day.",
                remedy="Declare days or weeks.",
            )


def _check_order(file: Path, event: Any, timezone: ZoneInfo) -> None:
    """The library that expands events turns a range round without a word."""
    if "DTSTART" in event and "DTEND" in event:
        begin, end = (to_utc(name, event[name].dt, timezone) for name in ("DTSTART", "DTEND"))
        if end <= begin:
            raise InvalidInput(
                f"{file}: {event.get('SUMMARY', event.get('UID'))}: DTEND",
                f"{end} is not after the start, {begin}.",
                remedy="Correct it where the calendar is kept.",
            )


def _status(event: Any) -> str:
    return str(event.get("STATUS", "")).upper()


def _entry(file: Path, event: Any, timezone: ZoneInfo, effect: float | None) -> Entry:
    name = str(event.get("SUMMARY", "")).strip()
    with placed(f"{file}: {name or event.get('UID')}"):
        if event.get("DTSTART") is None:
            raise InvalidInput("DTSTART", "is missing.", remedy="An event needs a start.")
        starts_at = to_utc("DTSTART", event.start, timezone)
        # Without an end a whole day is one day long; an instant is refused, it could have no effect.
        ends_at = to_utc("DTEND", event.end, timezone)
        categories = {str(one).upper() for one in event.categories}
        kind = next((one for one in _CATEGORIES if one.name in categories), EventKind.PROMOTION)
        own = parse_effect(str(event.get("X-FORESHARD-EFFECT", "")))
        if ends_at - starts_at > timedelta(days=366):
            raise InvalidInput("DTEND", "is more than a year after the start.", remedy="Shorten it.")
        found = Event(
            name,
            starts_at,
            ends_at,
            effect if own is None and kind is EventKind.PROMOTION else own,
            names(str(event.get("X-FORESHARD-SHARDS", ""))),
            names(str(event.get("X-FORESHARD-BUCKETS", ""))),
            kind,
        )
    recurrence = event.get("RECURRENCE-ID")
    return Entry(
        found,
        str(event["UID"]),
        "" if recurrence is None else to_utc("RECURRENCE-ID", recurrence.dt, timezone).isoformat(),
    )
