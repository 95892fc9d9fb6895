"""The calendar in a real control database, and its commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from alembic import command
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from typer.testing import CliRunner

from foreshard.calendar.entry import CalendarFile, Entry
from foreshard.cli_calendar import calendar_app
from foreshard.control.calendar_store import CalendarStore
from foreshard.control.engine import ControlDatabase, _alembic_config
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.errors import InvalidInput, NotFound
from foreshard.forecast.calendar import Event
from foreshard.topology.keys import KeyType
from foreshard.topology.placement import Placement

NEXT = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) + timedelta(days=10)
ONE_DAY = timedelta(days=1)


@pytest.fixture
def control(control_dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ControlDatabase]:
    monkeypatch.setenv("FORESHARD_CONTROL__DSN", control_dsn)
    monkeypatch.setenv("FORESHARD_CLOCK__TIMEZONE", "America/New_York")
    monkeypatch.delenv("FORESHARD_CONFIG", raising=False)
    database = ControlDatabase(control_dsn)
    database.migrate()
    topology = TopologyStore(database)
    topology.describe_fleet(KeyType.TEXT, {"things": "owner"})
    for name in ("one", "two"):
        topology.put_shard(ShardRecord(name, f"dbname={name}", f"dbname={name}", {"cpu_cores": 2.0}))
    topology.put_buckets(("b0", "b1"), Placement({"b0": "one", "b1": "two"}))
    yield database
    database.close()


def run(*arguments: str) -> str:
    result = CliRunner().invoke(calendar_app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def run_json(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json"))


def sale(name: str = "sale", hours: int = 5, effect: float = 1.5, **more: Any) -> Event:
    return Event(name, NEXT, NEXT + timedelta(hours=hours), effect, **more)


def test_events_of_the_version_before_are_kept(control_dsn: str) -> None:
    database = ControlDatabase(control_dsn)
    config = _alembic_config()
    with database.engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0006")
        connection.execute(
            text(
                "INSERT INTO events (name, starts_at, ends_at, effect) VALUES"
                " ('old', '2026-01-01 00:00Z', '2026-01-02 00:00Z', 1.5)"
            )
        )
        connection.commit()
    database.migrate()
    (kept,) = CalendarStore(database).all()
    assert (kept.event.name, kept.event.effect, kept.event.kind, kept.source) == (
        "old",
        1.5,
        "promotion",
        "hand",
    )
    with database.engine.connect() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0006")
        connection.commit()
        assert connection.execute(text("SELECT name FROM events")).scalar_one() == "old"
    database.close()


def test_blackouts_are_for_plans_and_not_for_forecasts(control: ControlDatabase) -> None:
    day, after = f"{NEXT:%Y-%m-%d}", f"{NEXT + ONE_DAY:%Y-%m-%d}"
    told = run("add", "freeze", "--starts", day, "--ends", after, "--kind", "blackout")
    assert "no migration runs" in told.replace("\n", " ")
    assert "blackout" in run("list")
    store = CalendarStore(control)
    store.add(sale())
    (black,) = store.blackouts(NEXT, NEXT + ONE_DAY)
    assert (black.name, black.ends_at - black.starts_at) == ("freeze", ONE_DAY)
    assert store.blackouts(black.ends_at, NEXT + 9 * ONE_DAY) == ()
    assert store.blackouts(NEXT - 9 * ONE_DAY, black.starts_at) == ()
    events = store.events(ZoneInfo("America/New_York"), NEXT - ONE_DAY, NEXT + ONE_DAY)
    assert [one.name for one in events] == ["sale"]
    (freeze, promotion) = store.all()
    changed = run_json("edit", str(promotion.id), "--kind", "blackout")
    assert (changed["kind"], changed["effect"]) == ("blackout", None)
    with pytest.raises(InvalidInput, match="effect"):
        run("edit", str(freeze.id), "--effect", "2")
    for values in (
        "'blackout', 1.5, NULL",
        "'blackout', NULL, '{one}'",
        "'promotion', NULL, NULL",
        "'x', 1, NULL",
    ):
        with pytest.raises(IntegrityError), control.transaction() as session:
            session.connection().exec_driver_sql(
                "INSERT INTO events (name, starts_at, ends_at, kind, effect, shards)"
                f" VALUES ('wrong', now(), now() + interval '1 h', {values})"
            )
    config = _alembic_config()
    with control.engine.connect() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0010")
        connection.commit()
        assert connection.execute(text("SELECT count(*) FROM events")).scalar_one() == 0
        command.upgrade(config, "head")
        connection.commit()


def test_a_file_again_changes_nothing_and_what_left_it_is_removed(control: ControlDatabase) -> None:
    store = CalendarStore(control)
    by_hand = store.add(sale("by hand"))
    first = CalendarFile(
        (Entry(sale("a"), "u", "1"), Entry(sale("b"), "u", "2"), Entry(sale("c"))), frozenset({"u"})
    )
    since, until = NEXT - ONE_DAY, NEXT + ONE_DAY
    would = store.take(first, since, until, dry_run=True)
    assert [one.event.name for one in store.all()] == ["by hand"]
    done = store.take(first, since, until)
    assert would == done
    assert [one.name for one in done.added] == ["a", "b", "c"]
    again = store.take(first, since, until)
    assert (again.added, again.changed, again.removed, again.unchanged) == ((), (), (), 3)
    second = CalendarFile(
        (Entry(sale("a", effect=2.0), "u", "1"), Entry(sale("c", hours=9))), frozenset({"u"})
    )
    assert store.take(second, since, until, dry_run=True) == store.take(second, since, until)
    stored = {one.event.name: one.event for one in store.all()}
    assert set(stored) == {"by hand", "a", "c"}
    assert (stored["a"].effect, stored["c"].ends_at) == (2.0, NEXT + timedelta(hours=9))
    assert store.get(by_hand.id).source == "hand"


def test_two_imports_at_once_store_once(control: ControlDatabase) -> None:
    store = CalendarStore(control)
    file = CalendarFile(tuple(Entry(sale(f"event {n}")) for n in range(50)))
    threads = [Thread(target=store.take, args=(file, NEXT - ONE_DAY, NEXT + ONE_DAY)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.all()) == 50


def test_an_unknown_shard_or_bucket_stores_nothing_at_all(control: ControlDatabase) -> None:
    store = CalendarStore(control)
    good, bad = Entry(sale("good")), Entry(sale("bad", buckets=frozenset({"b9"})))
    with pytest.raises(InvalidInput, match=r"buckets: event bad: .*b9"):
        store.take(CalendarFile((good, bad)), NEXT, NEXT + ONE_DAY)
    with pytest.raises(InvalidInput, match=r"shards: .*'three'"):
        store.add(sale(shards=frozenset({"three"})))
    assert store.all() == ()


def test_add_edit_list_and_remove(control: ControlDatabase) -> None:
    day, after = f"{NEXT:%Y-%m-%d}", f"{NEXT + ONE_DAY:%Y-%m-%d}"
    told = run("add", 'It\'s [b]50 %[/b] "off"', "--starts", day, "--ends", after, "--effect", "1.5")
    assert f"from {day} until {after} in America/New_York, load x 1.5, fleet" in told.replace("\n", "")
    assert 'It\'s [b]50 %[/b] "off"' in told
    (record,) = CalendarStore(control).all()
    assert record.event.starts_at.hour in (4, 5)
    other = run(
        "add", "rush", "--starts", f"{day}T10:00", "--ends", f"{day}T11:00", "--effect", "2", "--shard", "one"
    )
    assert "rush overlaps It's" in other
    changed = run_json("edit", str(record.id), "--effect", "3", "--shard", "two")
    assert (changed["effect"], changed["shards"], changed["overlaps"]) == (3.0, ["two"], [])
    assert run_json("edit", str(record.id), "--everywhere")["shards"] is None
    run("holidays", "--country", "us", "--subdivision", "ny")
    listed = run("list")
    assert max(map(len, listed.splitlines())) <= 80
    assert "Christmas Day" in listed
    assert "learnt" in listed
    document = run_json("list")
    assert [one["name"] for one in document["events"]] == ['It\'s [b]50 %[/b] "off"', "rush"]
    assert len(document["holidays"]) > 8
    run("remove", str(record.id))
    run("holidays", "--country", "US", "--subdivision", "NY", "--remove")
    document = run_json("list")
    assert (len(document["events"]), document["holidays"]) == (1, [])


@pytest.mark.usefixtures("control")
def test_what_a_command_cannot_do_is_refused_by_field() -> None:
    day, after = f"{NEXT:%Y-%m-%d}", f"{NEXT + ONE_DAY:%Y-%m-%d}"
    run("add", "sale", "--starts", day, "--ends", after, "--effect", "1.5")
    for arguments, field in (
        (["add", "sale", "--starts", day, "--ends", after, "--effect", "2"], "name"),
        (["add", " ", "--starts", day, "--ends", after, "--effect", "2"], "name"),
        (["add", "x", "--starts", after, "--ends", day, "--effect", "2"], "ends_at"),
        (["add", "x", "--starts", "soon", "--ends", after, "--effect", "2"], "starts_at"),
        (["add", "x", "--starts", day, "--ends", after, "--effect", "0"], "effect"),
        (["add", "x", "--starts", day, "--ends", after, "--effect", "nan"], "effect"),
        (["add", "x", "--starts", day, "--ends", after], "effect"),
        (["add", "x", "--starts", day, "--ends", after, "--effect", "2", "--bucket", "b'9"], "buckets"),
        (["import", "events.txt"], "file"),
        (["import", "events.csv", "--effect", "-1"], "effect"),
        (["holidays", "--country", "ZZ"], "country"),
        (["edit", "1", "--everywhere", "--shard", "one"], "--everywhere"),
    ):
        with pytest.raises(InvalidInput) as refused:
            run(*arguments)
        assert refused.value.field == field, arguments
        assert refused.value.remedy
    for missing in (["remove", "999"], ["edit", "999"], ["holidays", "--country", "US", "--remove"]):
        with pytest.raises(NotFound):
            run(*missing)


def test_files_are_imported_by_the_command(control: ControlDatabase, tmp_path: Path) -> None:
    rows = tmp_path / "promotions.csv"
    rows.write_text(
        f"name,starts_at,ends_at,effect,shards\nsale,{NEXT:%Y-%m-%d},{NEXT + ONE_DAY:%Y-%m-%d},1.5,one two\n"
        f"rush,{NEXT:%Y-%m-%d}T09:00,{NEXT:%Y-%m-%d}T10:00,,\n"
    )
    told = run("import", str(rows), "--effect", "1.1", "--dry-run")
    assert "Nothing is stored. It would be: 2 added" in told
    assert "rush overlaps sale" in told or "sale overlaps rush" in told
    assert CalendarStore(control).all() == ()
    run("import", str(rows), "--effect", "1.1")
    assert run_json("import", str(rows), "--effect", "1.1")["unchanged"] == 2
    market = tmp_path / "market.ics"
    lines = (
        "BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:x", "BEGIN:VEVENT", "UID:m", "SUMMARY:market",
        f"DTSTART;TZID=Europe/Berlin:{NEXT:%Y%m%d}T180000", f"DTEND;TZID=Europe/Berlin:{NEXT:%Y%m%d}T200000",
        "RRULE:FREQ=WEEKLY;COUNT=4", "X-FORESHARD-EFFECT:1.2", "END:VEVENT", "END:VCALENDAR",
    )  # fmt: skip
    market.write_text("\r\n".join(lines) + "\r\n")
    assert len(run_json("import", str(market))["added"]) == 4
    market.write_text("\r\n".join(lines).replace("COUNT=4", "COUNT=3") + "\r\n")
    document = run_json("import", str(market))
    assert (len(document["removed"]), document["unchanged"], document["added"]) == (1, 3, [])
    market.write_text("\r\n".join(lines).replace("SUMMARY", "STATUS:CANCELLED\r\nSUMMARY") + "\r\n")
    assert len(run_json("import", str(market))["removed"]) == 3
    assert {one.event.name for one in CalendarStore(control).all()} == {"sale", "rush"}
