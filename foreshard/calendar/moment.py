"""Times as people write them."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

from foreshard.errors import InvalidInput

EXAMPLE = "Write it as 2026-11-27, 2026-11-27T18:00 or 2026-11-27T18:00+01:00."


def parse_moment(field: str, text: str, timezone: ZoneInfo) -> datetime:
    """An instant in UTC. Without an offset it is the time in ``timezone``, and a date alone its midnight there.

    Raises ``InvalidInput`` naming ``field``: it is no time, or one that the clocks skip.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InvalidInput(field, f"{text!r} is not a time.", remedy=EXAMPLE) from None
    return to_utc(field, moment, timezone)


def to_utc(field: str, moment: datetime | date, timezone: ZoneInfo) -> datetime:
    """As `parse_moment`, of what a library has read."""
    if not isinstance(moment, datetime):
        moment = datetime.combine(moment, time())
    try:
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
        there = moment.replace(tzinfo=timezone)
        instant = there.astimezone(UTC)
        if instant.astimezone(timezone).replace(tzinfo=None) != moment:
            raise InvalidInput(
                field,
                f"{moment} does not exist in {timezone.key}: the clocks go forward.",
                remedy="Name another time, or add an offset such as +01:00.",
            )
    except OverflowError:
        raise InvalidInput(field, f"{moment} is beyond all calendars.", remedy=EXAMPLE) from None
    return instant
