"""Maintenance windows by the clock on the wall, over midnight, the week's end and changes of the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.errors import InvalidInput
from foreshard.planning.windows import Blackout, Span, allowed, parse_windows

BERLIN = ZoneInfo("Europe/Berlin")
HOUR = timedelta(hours=1)


def at(day: int, hour: float, month: int = 3) -> datetime:
    return datetime(2026, month, day, tzinfo=UTC) + hour * HOUR


def hours(texts: list[str], since: datetime, until: datetime) -> list[tuple[float, float]]:
    """Openings in hours since ``since``."""
    found = parse_windows(texts).openings(since, until, BERLIN)
    return [((span.starts_at - since) / HOUR, (span.ends_at - since) / HOUR) for span in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # from Friday the 6th, 00:00 in Berlin
        ("Fri 22:00-06:00", [(22, 30)]),
        ("Thu-Fri 22:00-06:00", [(0, 6), (22, 30)]),
        ("Sat,Sun 00:00-24:00", [(24, 72)]),
        ("daily 01:00-05:00", [(1, 5), (25, 29), (49, 53), (73, 77)]),
        ("Sun-Mon 23:30-00:30", [(71.5, 72.5), (95.5, 96)]),
        ("fri-mon 12:00-13:00", [(12, 13), (36, 37), (60, 61), (84, 85)]),
        ("Sunday 9:00 - 10:00", [(57, 58)]),
    ],
)
def test_windows_of_the_week(text: str, expected: list[tuple[float, float]]) -> None:
    assert hours([text], at(5, 23), at(9, 23)) == expected


def test_windows_that_touch_are_one() -> None:
    assert hours(["Sat 10:00-12:00", "Sat 12:00-13:00", "Sat 11:00-14:00"], at(6, 23), at(7, 23)) == [
        (10, 14)
    ]
    [span] = parse_windows(["Fri 22:00-24:00", "Sat 00:00-02:00"]).openings(at(6, 0), at(8, 0), BERLIN)
    assert span == Span(at(6, 21), at(7, 1), "the window Fri 22:00-24:00 opens")


def test_without_windows_every_time_is_allowed() -> None:
    assert parse_windows([]).openings(at(1, 0), at(2, 0), BERLIN) == (Span(at(1, 0), at(2, 0)),)
    assert parse_windows([]).openings(at(2, 0), at(1, 0), BERLIN) == ()


def test_changes_of_the_clock() -> None:
    # 29 March, 02:00 becomes 03:00: midnight is at 23:00 UTC
    assert hours(["Sun 00:00-06:00"], at(28, 23), at(29, 22)) == [(0, 5)]
    assert hours(["Sun 02:15-02:45"], at(28, 23), at(29, 22)) == []
    assert hours(["Sun 01:30-02:30"], at(28, 23), at(29, 22)) == [(1.5, 2)]
    # 25 October, 03:00 becomes 02:00: midnight is at 22:00 UTC
    assert hours(["Sun 00:00-06:00"], at(24, 22, 10), at(25, 23, 10)) == [(0, 7)]
    assert hours(["Sun 02:15-02:45"], at(24, 22, 10), at(25, 23, 10)) == [(2.25, 2.75), (3.25, 3.75)]
    assert hours(["Sat 22:00-04:00"], at(24, 22, 10), at(25, 23, 10)) == [(0, 5)]


@given(
    st.integers(0, 2 * 365 * 86_400),
    st.sets(st.integers(0, 6), min_size=1),
    st.integers(0, 1439),
    st.integers(1, 1440),
)
def test_open_is_what_the_wall_says(second: int, days: set[int], opens: int, closes: int) -> None:
    if opens == closes:
        return
    names = ",".join(("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[day] for day in days)
    text = f"{names} {opens // 60:02}:{opens % 60:02}-{closes // 60:02}:{closes % 60:02}"
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
    spans = parse_windows([text]).openings(moment - 30 * HOUR, moment + 30 * HOUR, BERLIN)
    local = moment.astimezone(BERLIN)
    minutes = local.hour * 60 + local.minute + local.second / 60 + local.microsecond / 6e7
    if closes > opens:
        expected = local.weekday() in days and opens <= minutes < closes
    else:
        expected = (local.weekday() in days and minutes >= opens) or (
            (local.weekday() - 1) % 7 in days and minutes < closes
        )
    assert any(span.starts_at <= moment < span.ends_at for span in spans) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("22:00-06:00", "is not days and times"),
        ("Mon-Fri", "is not days and times"),
        ("", "is not days and times"),
        ("Mon-Fry 22:00-06:00", "'Fry' is no day of the week"),
        ("Mon,, 22:00-06:00", "'' is no day of the week"),
        ("Mon 25:00-06:00", "25:00 is no time of day"),
        ("Mon 22:60-23:00", "22:60 is no time of day"),
        ("Mon 22:00-24:01", "24:01 is no time of day"),
        ("Mon 24:00-01:00", "opens at 24:00"),
        ("Mon 08:00-08:00", "opens and closes at the same time"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as refused:
        parse_windows(["daily 01:00-05:00", text])
    assert refused.value.field == "windows"
    assert refused.value.remedy


def test_blackouts_are_cut_out() -> None:
    windows = parse_windows(["daily 10:00-16:00"])
    blackouts = (
        Blackout("the fair", at(6, 11), at(6, 12)),
        Blackout("overlapping it", at(6, 11.5), at(6, 12.5)),
        Blackout("the evening", at(6, 14), at(6, 20)),
        Blackout("all of Saturday", at(7, 0), at(8, 0)),
    )
    assert allowed(windows, blackouts, at(6, 0), at(8, 10), BERLIN) == (
        Span(at(6, 9), at(6, 11), "the window daily 10:00-16:00 opens"),
        Span(at(6, 12.5), at(6, 14), "the blackout overlapping it ends"),
        Span(at(8, 9), at(8, 10), "the window daily 10:00-16:00 opens"),
    )
