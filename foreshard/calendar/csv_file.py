"""Events from a CSV file: name,starts_at,ends_at,effect,shards,buckets,kind. The first three must be there."""

from __future__ import annotations

import csv
from pathlib import Path
from zoneinfo import ZoneInfo

from foreshard.calendar.entry import CalendarFile, Entry, names, parse_effect, placed
from foreshard.calendar.moment import parse_moment
from foreshard.errors import InvalidInput
from foreshard.forecast.calendar import Event, EventKind

NEEDED = ("name", "starts_at", "ends_at")
COLUMNS = (*NEEDED, "effect", "shards", "buckets", "kind")


def read_csv(file: Path, timezone: ZoneInfo, effect: float | None = None) -> CalendarFile:
    """All events of the file; ``effect`` is that of promotions which name none. Names of shards and buckets are
    separated by blanks or semicolons.

    Raises ``InvalidInput`` that names file, line and field.
    """
    entries: list[Entry] = []
    seen: dict[tuple[str, object], int] = {}
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.DictReader(stream, strict=True)
            _check_columns(file, rows.fieldnames or ())
            for row in rows:
                event = _event(file, rows.line_num, row, timezone, effect)
                earlier = seen.setdefault((event.name, event.starts_at), rows.line_num)
                if earlier != rows.line_num:
                    raise InvalidInput(
                        f"{file}:{rows.line_num}: name",
                        f"{event.name!r} with that start is in line {earlier} already.",
                        remedy="Remove one of the two.",
                    )
                entries.append(Entry(event))
    except (OSError, UnicodeDecodeError, csv.Error) as broken:
        raise InvalidInput(
            str(file), f"cannot be read: {broken}.", remedy="It must be CSV in UTF-8."
        ) from None
    return CalendarFile(tuple(entries))


def _check_columns(file: Path, found: object) -> None:
    assert isinstance(found, (list, tuple))
    missing = [name for name in NEEDED if name not in found]
    unknown = [str(name) for name in found if name not in COLUMNS]
    if missing or unknown:
        what = f"has no column {missing[0]!r}" if missing else f"has an unknown column {unknown[0]!r}"
        raise InvalidInput(f"{file}:1", f"{what}.", remedy=f"Its first line: {','.join(COLUMNS)}")


def _event(
    file: Path, line: int, row: dict[str | None, str | None], timezone: ZoneInfo, effect: float | None
) -> Event:
    def field(name: str) -> str:
        return (row.get(name) or "").strip()

    if None in row:
        raise InvalidInput(f"{file}:{line}", "has more fields than the first line.", remedy="Quote commas.")
    with placed(f"{file}:{line}"):
        word = field("kind") or EventKind.PROMOTION
        if word not in set(EventKind):
            raise InvalidInput("kind", f"{word!r} is none.", remedy=f"One of {', '.join(EventKind)}.")
        kind = EventKind(word)
        own = parse_effect(field("effect"))
        return Event(
            field("name"),
            parse_moment("starts_at", field("starts_at"), timezone),
            parse_moment("ends_at", field("ends_at"), timezone),
            effect if own is None and kind is EventKind.PROMOTION else own,
            names(field("shards")),
            names(field("buckets")),
            kind,
        )
