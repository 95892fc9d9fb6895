"""Public holidays of a country or a part of it, every year anew."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from foreshard.errors import InvalidInput
from foreshard.forecast.calendar import Event, EventKind, check_effect


@dataclass(frozen=True)
class HolidayRegion:
    """Whose holidays the fleet's users keep: ISO 3166 codes, such as US and NY; ``subdivision`` '' is the country.

    ``effect`` None: to be learnt. ``shards`` and ``buckets`` as of an `Event`.
    """

    country: str
    subdivision: str = ""
    effect: float | None = None
    shards: frozenset[str] | None = None
    buckets: frozenset[str] | None = None

    def __post_init__(self) -> None:
        import holidays  # here: most who open the calendar ask for blackouts only

        known = holidays.list_supported_countries()
        if self.country not in known:
            raise InvalidInput(
                "country",
                f"no holidays are known of {self.country!r}.",
                remedy="Use a code of two letters, such as US, DE or IN.",
            )
        if self.subdivision and self.subdivision not in known[self.country]:
            parts = ", ".join(known[self.country]) or "none"
            raise InvalidInput(
                "subdivision",
                f"{self.country} has no part {self.subdivision!r}.",
                remedy=f"Its parts are: {parts}.",
            )
        check_effect(self.effect, EventKind.HOLIDAY)

    def __str__(self) -> str:
        return f"{self.country}-{self.subdivision}" if self.subdivision else self.country

    def events(self, timezone: ZoneInfo, since: datetime, until: datetime) -> list[Event]:
        """The holidays that touch the time from ``since`` until ``until``, from midnight to midnight there.

        Where the clocks change a day has 23 or 25 hours.
        """
        first, last = since.astimezone(timezone).date(), until.astimezone(timezone).date()
        import holidays

        days = holidays.country_holidays(
            self.country, subdiv=self.subdivision or None, years=range(first.year, last.year + 1)
        )
        found = [
            Event(
                f"{name} ({self})",
                datetime.combine(day, time(), timezone).astimezone(UTC),
                datetime.combine(day + timedelta(days=1), time(), timezone).astimezone(UTC),
                self.effect,
                self.shards,
                self.buckets,
                EventKind.HOLIDAY,
            )
            for day, name in sorted(days.items())
        ]
        return [event for event in found if event.starts_at < until and event.ends_at > since]
