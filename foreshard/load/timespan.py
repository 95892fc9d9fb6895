"""Times as people type them: ``24h``, ``7d``, ``now``, ``2026-03-02``, ``2026-03-02 12:00+01:00``."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from foreshard.errors import InvalidInput

_DURATION = re.compile(r"([0-9]{1,9})\s*(s|m|min|h|d|w)")
_UNITS = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_LONGEST = timedelta(weeks=5200)


def duration(option: str, text: str) -> timedelta:
    """``90s``, ``5m``, ``24h``, ``7d``, ``6w``. Raises InvalidInput that names ``option``."""
    found = _DURATION.fullmatch(text.strip())
    length = None if found is None else timedelta(**{_UNITS[found[2]]: int(found[1])})
    if length is None or not timedelta(0) < length <= _LONGEST:
        raise InvalidInput(
            option, f"{text!r} is not a length of time", remedy="For example 90s, 5m, 24h, 7d, 6w."
        )
    return length


def moment(option: str, text: str, now: datetime, zone: ZoneInfo) -> datetime:
    """A length of time before ``now``, ``now`` itself, or a time in ISO 8601; without a time zone it is of ``zone``.

    Raises InvalidInput that names ``option``.
    """
    if text.strip() == "now":
        return now
    if _DURATION.fullmatch(text.strip()):
        return now - duration(option, text)
    try:
        found = datetime.fromisoformat(text.strip())
        return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(now.tzinfo)
    except (ValueError, OverflowError):
        raise InvalidInput(
            option,
            f"{text!r} is not a time",
            remedy="For example 24h, 7d, now, 2026-03-02 or 2026-03-02T12:00+01:00.",
        ) from None


def timespan(since: str, until: str, now: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Both ends of a span of time, from the options ``--since`` and ``--until``.

    Raises InvalidInput that names the option, also where the span is turned round or empty.
    """
    begin, end = moment("--since", since, now, zone), moment("--until", until, now, zone)
    if begin >= end:
        raise InvalidInput("--since", f"{since} is not before --until {until}", remedy="Turn them round.")
    return begin, end
