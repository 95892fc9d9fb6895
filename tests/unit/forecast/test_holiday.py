"""Holidays: the country's days, in the fleet's time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from foreshard.errors import InvalidInput
from foreshard.forecast.calendar import EventKind
from foreshard.forecast.holiday import HolidayRegion

NEW_YORK, BERLIN = ZoneInfo("America/New_York"), ZoneInfo("Europe/Berlin")


def test_they_recur_from_midnight_to_midnight_there() -> None:
    events = HolidayRegion("US", "NY").events(
        NEW_YORK, datetime(2025, 12, 1, tzinfo=UTC), datetime(2027, 1, 2, tzinfo=UTC)
    )
    new_years = [one for one in events if one.name.startswith("New Year's Day")]
    assert [one.starts_at.astimezone(NEW_YORK).isoformat() for one in new_years] == [
        "2026-01-01T00:00:00-05:00",
        "2027-01-01T00:00:00-05:00",
    ]
    assert all(one.kind is EventKind.HOLIDAY and one.effect is None for one in events)
    assert {one.ends_at - one.starts_at for one in events} == {timedelta(days=1)}
    assert any("Lincoln" in one.name for one in events)  # kept in New York, not in all states


def test_a_holiday_on_which_the_clocks_change_is_as_long_as_its_day() -> None:
    year = HolidayRegion("DE", "BB").events(
        BERLIN, datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)
    )
    easter = next(one for one in year if one.starts_at == datetime(2024, 3, 30, 23, tzinfo=UTC))
    assert easter.ends_at - easter.starts_at == timedelta(hours=23)


def test_only_those_that_touch_the_time_are_given() -> None:
    christmas = datetime(2026, 12, 25, 6, tzinfo=UTC)
    (only,) = HolidayRegion("US").events(NEW_YORK, christmas, christmas + timedelta(hours=1))
    assert only.name == "Christmas Day (US)"
    assert (
        HolidayRegion("US").events(NEW_YORK, christmas - timedelta(days=10), christmas - timedelta(days=9))
        == []
    )


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("country", ("XX",)),
        ("country", ("",)),
        ("subdivision", ("US", "QQ")),
        ("effect", ("US", "", 0.0)),
        ("effect", ("US", "", float("inf"))),
    ],
)
def test_what_is_not_known_is_refused(field: str, arguments: tuple[str]) -> None:
    with pytest.raises(InvalidInput) as refused:
        HolidayRegion(*arguments)
    assert refused.value.field == field
    assert refused.value.remedy
