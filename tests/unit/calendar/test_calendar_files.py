"""Calendar files: what is read, and how what cannot be is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.calendar.csv_file import read_csv
from foreshard.calendar.ical_file import read_ical
from foreshard.calendar.moment import parse_moment, to_utc
from foreshard.errors import InvalidInput
from foreshard.forecast.calendar import EventKind

ZONE = ZoneInfo("America/New_York")
SINCE, UNTIL = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
HEADER = "name,starts_at,ends_at,effect,shards,buckets,kind\n"


def csv_file(folder: Path, text: str) -> Path:
    file = folder / "events.csv"
    file.write_text(text, encoding="utf-8")
    return file


def ical_file(folder: Path, *events: str) -> Path:
    file = folder / "events.ics"
    body = "".join(f"BEGIN:VEVENT\n{event.strip()}\nEND:VEVENT\n" for event in events)
    text = f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//test//EN\n{body}END:VCALENDAR\n"
    file.write_bytes(text.replace("\n", "\r\n").encode())
    return file


def test_a_csv_file_is_read_with_times_of_the_fleet(tmp_path: Path) -> None:
    file = csv_file(
        tmp_path,
        "\ufeff" + HEADER + '"Sale, ""big""",2026-11-27,2026-11-28T06:00,1.35,shard-1 shard-2,,\n'
        "night,2026-07-01T00:00+00:00,2026-07-01T02:00Z,150%,,b0001;b0002,promotion\n"
        "day off,2026-03-08,2026-03-09,,,,holiday\n"
        "freeze,2026-12-24,2027-01-02,,,,blackout\n",
    )
    sale, night, day_off, freeze = (entry.event for entry in read_csv(file, ZONE, 1.2).entries)
    assert (freeze.kind, freeze.effect) == (EventKind.BLACKOUT, None)
    assert sale.name == 'Sale, "big"'
    assert sale.starts_at == datetime(2026, 11, 27, 5, tzinfo=UTC)
    assert sale.ends_at == datetime(2026, 11, 28, 11, tzinfo=UTC)
    assert sale.shards == {"shard-1", "shard-2"}
    assert (night.effect, night.buckets, night.starts_at.hour) == (1.5, {"b0001", "b0002"}, 0)
    assert (day_off.kind, day_off.effect) == (EventKind.HOLIDAY, None)
    assert (day_off.ends_at - day_off.starts_at).total_seconds() == 23 * 3600


def test_a_csv_file_may_leave_the_effect_to_the_command(tmp_path: Path) -> None:
    file = csv_file(tmp_path, "name,starts_at,ends_at\nsale,2026-11-27,2026-11-28\n")
    assert read_csv(file, ZONE, 1.2).entries[0].event.effect == 1.2
    with pytest.raises(InvalidInput, match=r"events.csv:2: effect"):
        read_csv(file, ZONE)


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ("sale,yesterday,2026-11-28,1.2,,,", "2: starts_at"),
        ("sale,2026-11-28,2026-11-27,1.2,,,", "2: ends_at"),
        ("sale,2026-11-27,2026-11-27,1.2,,,", "2: ends_at"),
        ("sale,2026-03-08T02:30,2026-03-09,1.2,,,", "2: starts_at"),  # the clocks skip it
        ("sale,2026-11-27,2026-11-28,nan,,,", "2: effect"),
        ("sale,2026-11-27,2026-11-28,0,,,", "2: effect"),
        ("sale,2026-11-27,2026-11-28,-2,,,", "2: effect"),
        ("sale,2026-11-27,2026-11-28,much,,,", "2: effect"),
        (",2026-11-27,2026-11-28,1.2,,,", "2: name"),
        ("sale,2026-11-27,2026-11-28,1.2,,,party", "2: kind"),
        ("sale,2026-11-27,2026-11-28,1.2,a,b,promotion,more", "2"),
        ("a,2026-11-27,2026-11-28,1.2,,,\na,2026-11-27,2026-11-29,1.2,,,", "3: name"),
        ("a,0001-01-01,2026-11-28,1.2,,,", "2: starts_at"),
        ('a,"2026-11-27,2026-11-28,1.2,,,', ""),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, where: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_csv(csv_file(tmp_path, HEADER + line + "\n"), ZoneInfo("Asia/Tokyo") if "0001" in line else ZONE)
    assert f"events.csv{':' if where else ''}{where}" in refused.value.field
    assert refused.value.remedy


@pytest.mark.parametrize("header", ["name,starts_at\n", "name,starts_at,ends_at,efect\n", ""])
def test_a_header_that_is_not_understood_is_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(InvalidInput, match=r"events.csv:1"):
        read_csv(csv_file(tmp_path, header), ZONE)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes(b"name,starts_at,ends_at\n\xe9t\xe9,2026-11-27,2026-11-28\n")
    for file in (tmp_path / "none.csv", tmp_path / "latin.csv", tmp_path):
        with pytest.raises(InvalidInput, match="cannot be read"):
            read_csv(file, ZONE)
    (tmp_path / "broken.ics").write_text("BEGIN:VCALENDAR\nBEGIN:VEVENT\nEND:VCALENDAR\n")
    for file in (tmp_path / "none.ics", tmp_path / "broken.ics"):
        with pytest.raises(InvalidInput, match=r"not a calendar"):
            read_ical(file, ZONE, SINCE, UNTIL)


def test_days_zones_and_floating_times_of_an_icalendar_file(tmp_path: Path) -> None:
    file = ical_file(
        tmp_path,
        "UID:1\nSUMMARY:whole day\nDTSTART;VALUE=DATE:20260701\nX-FORESHARD-EFFECT:1.4",
        "UID:2\nSUMMARY:Berlin\nDTSTART;TZID=Europe/Berlin:20260702T120000\nDURATION:PT2H\n"
        "X-FORESHARD-EFFECT:2\nX-FORESHARD-SHARDS:shard-1",
        "UID:3\nSUMMARY:floating\nDTSTART:20260703T120000\nDTEND:20260703T130000\nX-FORESHARD-EFFECT:50%",
        "UID:4\nSUMMARY:day off\nDTSTART;VALUE=DATE:20260704\nDTEND;VALUE=DATE:20260706\nCATEGORIES:Holiday",
        "UID:6\nSUMMARY:freeze\nDTSTART;VALUE=DATE:20260707\nCATEGORIES:IT,Blackout",
        "UID:5\nSUMMARY:off\nSTATUS:CANCELLED\nDTSTART:20260705T000000Z\nDTEND:20260705T010000Z",
    )
    read = read_ical(file, ZONE, SINCE, UNTIL, 1.2)
    day, berlin, floating, off, freeze = (entry.event for entry in read.entries)
    assert (day.starts_at, day.ends_at) == (
        datetime(2026, 7, 1, 4, tzinfo=UTC),
        datetime(2026, 7, 2, 4, tzinfo=UTC),
    )
    assert (berlin.starts_at.hour, berlin.ends_at.hour, berlin.shards) == (10, 12, {"shard-1"})
    assert (floating.starts_at.hour, floating.effect) == (16, 0.5)
    assert (off.kind, off.effect, (off.ends_at - off.starts_at).days) == (EventKind.HOLIDAY, None, 2)
    assert (freeze.kind, freeze.effect) == (EventKind.BLACKOUT, None)
    assert read.uids == {"1", "2", "3", "4", "5", "6"}


def test_what_recurs_is_expanded_within_the_time(tmp_path: Path) -> None:
    weekly = (
        "UID:w\nSUMMARY:market\nDTSTART;TZID=America/New_York:20200106T180000\n"
        "DTEND;TZID=America/New_York:20200106T200000\nRRULE:FREQ=WEEKLY\n"
        "EXDATE;TZID=America/New_York:20260112T180000"
    )
    moved = (
        "UID:w\nSUMMARY:market, late\nRECURRENCE-ID;TZID=America/New_York:20260119T180000\n"
        "DTSTART;TZID=America/New_York:20260119T210000\nDTEND;TZID=America/New_York:20260119T220000"
    )
    read = read_ical(ical_file(tmp_path, weekly, moved), ZONE, SINCE, UNTIL, 1.2)
    assert len(read.entries) == 51  # 52 Mondays, one left out
    assert len({entry.recurrence for entry in read.entries}) == 51
    starts = {entry.event.starts_at.astimezone(ZONE).strftime("%m-%d %H") for entry in read.entries}
    assert {"01-05 18", "01-19 21", "07-06 18"} <= starts
    assert not {"01-12 18", "01-19 18"} & starts
    again = read_ical(ical_file(tmp_path, weekly, moved), ZONE, SINCE, UNTIL, 1.2)
    assert again == read


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (
            "UID:1\nSUMMARY:x\nDTSTART:20260701T000000Z\nDTEND:20260630T000000Z\nX-FORESHARD-EFFECT:2",
            "x: DTEND",
        ),
        ("UID:1\nSUMMARY:x\nDTSTART:20260701T000000Z\nDTEND:20260702T000000Z", "x: effect"),
        (
            "UID:1\nSUMMARY:x\nDTSTART:20260701T000000Z\nDTEND:20260702T000000Z\nX-FORESHARD-EFFECT:no",
            "x: effect",
        ),
        ("SUMMARY:x\nDTSTART:20260701T000000Z\nDTEND:20260702T000000Z\nX-FORESHARD-EFFECT:2", "x: UID"),
        ("UID:1\nDTSTART:20260701T000000Z\nDTEND:20260702T000000Z\nX-FORESHARD-EFFECT:2", "name"),
        ("UID:1\nSUMMARY:x\nDTSTART:20260701T000000Z\nX-FORESHARD-EFFECT:2", ""),  # an instant
        ("UID:1\nSUMMARY:x\nDTSTART:20260701T000000Z\nDURATION:PT1M\nRRULE:FREQ=SECONDLY", "x: RRULE"),
        ("UID:1\nSUMMARY:x\nDTSTART:soon\nDTEND:20260702T000000Z\nX-FORESHARD-EFFECT:2", ""),
        ("UID:1\nSUMMARY:x\nX-FORESHARD-EFFECT:2", ""),
    ],
)
def test_a_bad_event_is_named(tmp_path: Path, event: str, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_ical(ical_file(tmp_path, event), ZONE, SINCE, UNTIL)
    assert "events.ics" in refused.value.field
    assert refused.value.field.endswith(field)
    assert refused.value.remedy


@given(st.datetimes(datetime(1990, 1, 1), datetime(2060, 1, 1)))  # noqa: DTZ001
def test_a_time_is_what_it_says_there_or_refused(moment: datetime) -> None:
    skipped = moment.replace(tzinfo=ZONE).astimezone(UTC).astimezone(ZONE).replace(tzinfo=None) != moment
    if skipped:
        with pytest.raises(InvalidInput, match="does not exist"):
            to_utc("starts_at", moment, ZONE)
        return
    instant = to_utc("starts_at", moment, ZONE)
    assert instant.astimezone(ZONE).replace(tzinfo=None) == moment
    assert parse_moment("starts_at", moment.isoformat(), ZONE) == instant
