"""The commands of the calendar."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.markup import escape
from rich.table import Column, Table

from foreshard.calendar.csv_file import read_csv
from foreshard.calendar.draft import Draft
from foreshard.calendar.ical_file import read_ical
from foreshard.cli_output import AsJson, out, show
from foreshard.control.calendar_store import CalendarStore, EventRecord, Imported
from foreshard.control.session import session
from foreshard.errors import InvalidInput
from foreshard.forecast.calendar import Event, EventKind, check_effect, overlapping
from foreshard.forecast.holiday import HolidayRegion
from foreshard.settings import Settings

calendar_app = typer.Typer(
    no_args_is_help=True, help="Calendar: promotions and holidays, and what they do to load; blackouts."
)

YEAR = timedelta(days=366)

Number = Annotated[int, typer.Argument(min=1, help="Number of the event, as `list` shows it.")]
Starts = Annotated[str | None, typer.Option("--starts", metavar="TIME", help="2026-11-27T18:00, or a day.")]
Ends = Annotated[
    str | None, typer.Option("--ends", metavar="TIME", help="The end; a day ends the event as it begins.")
]
Effect = Annotated[float | None, typer.Option(help="Load as a multiple of what is common: 1.35, 0.5.")]
Shards = Annotated[list[str] | None, typer.Option("--shard", help="Only this shard; may be repeated.")]
Buckets = Annotated[list[str] | None, typer.Option("--bucket", help="Only this bucket; may be repeated.")]
Kind = Annotated[
    EventKind | None,
    typer.Option(help="A holiday needs no effect: it is learnt. In a blackout no migration runs."),
]


@calendar_app.command("list")
def calendar_list(
    past: Annotated[bool, typer.Option("--past", help="Also what is over.")] = False,
    as_json: AsJson = False,
) -> None:
    """Events that are under way or to come, and the holidays of the coming year.

    Example: foreshard calendar list --json
    """
    with session() as (settings, control):
        store, now = CalendarStore(control), settings.clock.fleet_clock().now()
        zone = ZoneInfo(settings.clock.timezone)
        records = [one for one in store.all() if past or one.event.ends_at > now]
        regions = store.regions()
    coming = [event for region in regions for event in region.events(zone, now, now + YEAR)]
    if as_json:
        show(
            {
                "timezone": zone.key,
                "events": [_document(one.event) | {"id": one.id, "source": one.source} for one in records],
                "holidays": [_document(event) for event in coming],
            }
        )
        return
    if not records and not regions:
        out.print("The calendar is empty: `foreshard calendar add`, `import` and `holidays` fill it.")
        return
    table = _table(zone)
    rows = [(one.event, str(one.id)) for one in records] + [(event, "") for event in coming]
    for event, number in sorted(rows, key=lambda row: row[0].starts_at):
        _add_row(table, number, event, zone)
    out.print(table)


@calendar_app.command("add")
def calendar_add(
    name: Annotated[str, typer.Argument(help="What it is called.")],
    starts: Annotated[str, typer.Option("--starts", metavar="TIME", help="2026-11-27T18:00, or a day.")],
    ends: Annotated[str, typer.Option("--ends", metavar="TIME", help="The end; a day: until it begins.")],
    effect: Effect = None,
    shard: Shards = None,
    bucket: Buckets = None,
    kind: Kind = None,
    as_json: AsJson = False,
) -> None:
    """Declares an event. Times without an offset are the fleet's (`clock.timezone`).

    Example: foreshard calendar add "Black Friday" --starts 2026-11-27 --ends 2026-11-28 --effect 1.35
    """
    draft = Draft(name, starts, ends, effect, shard, bucket, kind)
    with session() as (settings, control):
        store = CalendarStore(control)
        record = store.add(draft.event(ZoneInfo(settings.clock.timezone)))
        _tell("Added", record, store, settings, as_json)


@calendar_app.command("edit")
def calendar_edit(
    number: Number,
    name: Annotated[str | None, typer.Option(help="A new name.")] = None,
    starts: Starts = None,
    ends: Ends = None,
    effect: Effect = None,
    shard: Shards = None,
    bucket: Buckets = None,
    everywhere: Annotated[bool, typer.Option("--everywhere", help="On all shards and buckets.")] = False,
    kind: Kind = None,
    as_json: AsJson = False,
) -> None:
    """Changes what is given of an event. The file that it came from sets it back when it is imported again.

    Example: foreshard calendar edit 12 --effect 1.5 --shard shard-3
    """
    if everywhere and (shard or bucket):
        raise InvalidInput("--everywhere", "goes with no --shard and no --bucket.", remedy="Leave one out.")
    draft = Draft(name, starts, ends, effect, [] if everywhere else shard, [] if everywhere else bucket, kind)
    with session() as (settings, control):
        store = CalendarStore(control)
        changed = draft.applied_to(store.get(number).event, ZoneInfo(settings.clock.timezone))
        _tell("Changed", store.change(number, changed), store, settings, as_json)


@calendar_app.command("remove")
def calendar_remove(number: Number, as_json: AsJson = False) -> None:
    """Removes an event.

    Example: foreshard calendar remove 12
    """
    with session() as (settings, control):
        record = CalendarStore(control).remove(number)
    if as_json:
        show(_document(record.event) | {"id": record.id})
    else:
        told = _in_words(record.event, ZoneInfo(settings.clock.timezone))
        out.print(escape(f"Removed event {record.id}: {told}."), highlight=False, soft_wrap=True)


@calendar_app.command("import")
def calendar_import(
    file: Annotated[Path, typer.Argument(help="A file that ends in .csv or .ics.")],
    effect: Annotated[float | None, typer.Option(help="Of promotions that the file gives none.")] = None,
    days_back: Annotated[int, typer.Option(min=0, max=3660, help=".ics: from so many days ago.")] = 366,
    days_ahead: Annotated[int, typer.Option(min=1, max=3660, help=".ics: so many days from now.")] = 366,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    as_json: AsJson = False,
) -> None:
    """Takes events from a CSV or iCalendar file; the same file again changes nothing.

    CSV: name,starts_at,ends_at,effect,shards,buckets,kind. iCalendar: recurring events are expanded; cancelled ones,
    and recurrences that are gone from the file, are removed; X-FORESHARD-EFFECT is an event's effect.

    Example: foreshard calendar import promotions.ics --effect 1.2 --dry-run
    """
    if effect is not None:
        check_effect(effect, EventKind.PROMOTION)
    with session() as (settings, control):
        store, zone = CalendarStore(control), ZoneInfo(settings.clock.timezone)
        now = settings.clock.fleet_clock().now()
        since, until = now - timedelta(days=days_back), now + timedelta(days=days_ahead)
        match file.suffix.lower():
            case ".csv":
                read = read_csv(file, zone, effect)
            case ".ics":
                read = read_ical(file, zone, since, until, effect)
            case _:
                raise InvalidInput("file", f"{file} is neither .csv nor .ics.", remedy="Rename it.")
        imported = store.take(read, since, until, dry_run=dry_run)
        new = (*imported.added, *imported.changed)
        known = (*(one.event for one in store.all()), *(new if dry_run else ()))
    if as_json:
        show(_import_document(imported, dry_run))
        return
    _tell_import(imported, dry_run, zone)
    _tell_overlaps(new, known, zone)


@calendar_app.command("holidays")
def calendar_holidays(
    country: Annotated[str, typer.Option(help="Two letters: US, DE, IN.")],
    subdivision: Annotated[str, typer.Option(help="A part of it: NY, BY.")] = "",
    effect: Annotated[float | None, typer.Option(help="If it is known; without it, it is learnt.")] = None,
    shard: Shards = None,
    bucket: Buckets = None,
    remove: Annotated[bool, typer.Option("--remove", help="Keep them no longer.")] = False,
    as_json: AsJson = False,
) -> None:
    """Keeps the public holidays of a country, every year, from midnight to midnight in `clock.timezone`.

    Example: foreshard calendar holidays --country US --subdivision NY
    """
    scope = [None if names is None else frozenset(names) for names in (shard, bucket)]
    region = HolidayRegion(country.upper(), subdivision.upper(), effect, *scope)
    with session() as (settings, control):
        store, zone = CalendarStore(control), ZoneInfo(settings.clock.timezone)
        if remove:
            store.remove_region(region)
        else:
            store.put_region(region)
        now = settings.clock.fleet_clock().now()
    coming = [] if remove else region.events(zone, now, now + YEAR)
    if as_json:
        show({"region": str(region), "kept": not remove, "holidays": [_document(one) for one in coming]})
    elif remove:
        out.print(f"The holidays of {region} are kept no longer.", highlight=False)
    else:
        table = _table(zone)
        for event in coming:
            _add_row(table, "", event, zone)
        out.print(table)
        out.print(f"The holidays of {region} are kept; these are the coming year's.", highlight=False)


def _tell(done: str, record: EventRecord, store: CalendarStore, settings: Settings, as_json: bool) -> None:
    """What is stored now, with its times said back, and what it overlaps."""
    zone = ZoneInfo(settings.clock.timezone)
    others = [one.event for one in store.all() if one.id != record.id]
    if as_json:
        overlaps = [_document(other) for other in overlapping(record.event, others)]
        show(_document(record.event) | {"id": record.id, "source": record.source, "overlaps": overlaps})
        return
    told = f"{done} event {record.id}: {_in_words(record.event, zone)}."
    out.print(escape(told), highlight=False, soft_wrap=True)
    _tell_overlaps([record.event], others, zone)


def _tell_overlaps(events: Sequence[Event], known: Sequence[Event], zone: ZoneInfo) -> None:
    seen: set[frozenset[Event]] = set()
    for event in events:
        for other in overlapping(event, known):
            if other == event or frozenset((event, other)) in seen:
                continue
            seen.add(frozenset((event, other)))
            begin = _local(max(event.starts_at, other.starts_at), zone)
            out.print(
                escape(f"{event.name} overlaps {other.name} from {begin}: their effects multiply."),
                style="yellow",
                highlight=False,
                soft_wrap=True,
            )


def _tell_import(imported: Imported, dry_run: bool, zone: ZoneInfo) -> None:
    table = _table(zone, "")
    for what, events in (
        ("added", imported.added),
        ("changed", imported.changed),
        ("removed", imported.removed),
    ):
        for event in events:
            _add_row(table, what, event, zone)
    if table.row_count:
        out.print(table)
    counts = (
        f"{len(imported.added)} added, {len(imported.changed)} changed, {len(imported.removed)} removed, "
        f"{imported.unchanged} as they were"
    )
    out.print(f"Nothing is stored. It would be: {counts}." if dry_run else f"{counts}.", highlight=False)


def _import_document(imported: Imported, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "added": [_document(event) for event in imported.added],
        "changed": [_document(event) for event in imported.changed],
        "removed": [_document(event) for event in imported.removed],
        "unchanged": imported.unchanged,
    }


def _table(zone: ZoneInfo, first: str = "#") -> Table:
    return Table(
        Column(first, justify="right" if first == "#" else "left"),
        Column("event", overflow="fold"),
        Column("from", no_wrap=True),
        Column("until", no_wrap=True),
        Column("effect", justify="right"),
        Column("where", overflow="fold"),
        caption=f"Times of {zone.key}",
        caption_justify="left",
    )


def _add_row(table: Table, first: str, event: Event, zone: ZoneInfo) -> None:
    factor = "learnt" if event.effect is None else f"x {event.effect:g}"
    if event.kind is EventKind.BLACKOUT:
        factor = "blackout"
    begin, end = _local(event.starts_at, zone), _until(event, zone)
    table.add_row(first, escape(event.name), begin, end, factor, escape(_where(event)))


def _until(event: Event, zone: ZoneInfo) -> str:
    """As short as it can be told, beside the start."""
    begin, end = event.starts_at.astimezone(zone), event.ends_at.astimezone(zone)
    if (begin.hour, begin.minute, end.hour, end.minute) == (0, 0, 0, 0) and (
        end.date() - begin.date()
    ).days == 1:
        return "all day"
    return f"{end:%H:%M}" if begin.date() == end.date() else _local(event.ends_at, zone)


def _where(event: Event) -> str:
    """What the event concerns, in words."""
    named = sorted(event.shards or ()) + sorted(event.buckets or ())
    return ", ".join(named) if named else "fleet"


def _in_words(event: Event, zone: ZoneInfo) -> str:
    factor = "effect to be learnt" if event.effect is None else f"load x {event.effect:g}"
    if event.kind is EventKind.BLACKOUT:
        factor = "no migration runs"
    begin, end = _local(event.starts_at, zone), _local(event.ends_at, zone)
    return f"{event.name} ({event.kind}), from {begin} until {end} in {zone.key}, {factor}, {_where(event)}"


def _local(moment: datetime, zone: ZoneInfo) -> str:
    there = moment.astimezone(zone)
    return f"{there:%Y-%m-%d}" if there.hour == there.minute == 0 else f"{there:%Y-%m-%d %H:%M}"


def _document(event: Event) -> dict[str, Any]:
    return {
        "name": event.name,
        "kind": event.kind.value,
        "starts_at": event.starts_at.isoformat(),
        "ends_at": event.ends_at.isoformat(),
        "effect": event.effect,
        "shards": None if event.shards is None else sorted(event.shards),
        "buckets": None if event.buckets is None else sorted(event.buckets),
    }
