"""A report for people: what is the same in many buckets is said once. Pure."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from foreshard.adoption.changes import Change
from foreshard.adoption.report import AdoptionReport, Reason, Verdict
from foreshard.postgres.hazards import Effect


@dataclass(frozen=True)
class Line:
    """One reason, and the buckets it holds in."""

    text: str
    remedy: str
    effect: Effect
    buckets: tuple[str, ...]


@dataclass(frozen=True)
class TableSummary:
    """A table over all buckets that have it. ``name`` is '' for what is about buckets themselves."""

    name: str
    column: str | None
    buckets: int
    rows: int
    bytes: int
    partitions: int
    verdicts: Counter[Verdict]
    lines: tuple[Line, ...]


def summarise(report: AdoptionReport) -> list[TableSummary]:
    """Tables by name; what is about the buckets themselves comes last, if there is anything."""
    tables = defaultdict(list)
    for bucket in report.buckets:
        for table in bucket.tables:
            tables[table.name].append((bucket.name, table))
    found = [
        TableSummary(
            name,
            mine[0][1].column,
            len(mine),
            sum(table.rows for _, table in mine),
            sum(table.bytes for _, table in mine),
            max(table.partitions for _, table in mine),
            Counter(table.verdict for _, table in mine),
            _lines(name, [(bucket, table.reasons) for bucket, table in mine]),
        )
        for name, mine in sorted(tables.items())
    ]
    of_buckets = [(bucket.name, bucket.reasons) for bucket in report.buckets if bucket.reasons]
    if of_buckets:
        lines = _lines("", of_buckets)
        found.append(TableSummary("", None, len(report.buckets), 0, 0, 0, Counter(), lines))
    return found


def summarise_changes(changes: Sequence[Change], most: int = 10) -> list[Change]:
    """The changes, with buckets that go the same way taken together where there are more than ``most``."""
    buckets = [change for change in changes if change.what.startswith("bucket ")]
    if len(buckets) <= most:
        return list(changes)
    ways = Counter((_shard(change.was), _shard(change.becomes)) for change in buckets)
    rest = [change for change in changes if not change.what.startswith("bucket ")]
    for (was, becomes), count in sorted(ways.items()):
        rest.append(
            Change(f"{count} buckets", was, becomes if was != becomes else f"{becomes}, other numbers")
        )
    return rest


def _shard(placed: str) -> str:
    return f"on {placed.rpartition(' on ')[2]}" if placed else ""


def _lines(table: str, reasons: Iterable[tuple[str, Sequence[Reason]]]) -> tuple[Line, ...]:
    same: dict[tuple[str, str, Effect], list[str]] = {}
    for bucket, mine in reasons:
        for reason in mine:
            subject = _without(bucket, reason.subject)
            why = _without(bucket, reason.why)
            text = why if subject in ("", table) else f"{subject} {why}"
            same.setdefault((text, _without(bucket, reason.remedy), reason.effect), []).append(bucket)
    order = list(Effect)
    lines = [Line(*what, tuple(buckets)) for what, buckets in same.items()]
    return tuple(sorted(lines, key=lambda line: (order.index(line.effect), -len(line.buckets))))


def _without(bucket: str, text: str) -> str:
    """The text without the bucket's name before the dots, quoted or not."""
    quoted = '"' + bucket.replace('"', '""') + '"'
    return re.sub(rf"(?<![\w\"])(?:{re.escape(quoted)}|{re.escape(bucket)})\.", "", text)
