"""The whole comparison of a migration's copies, under writers: by the stage `verify`, and after a failover."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from foreshard.migration.work import Work
from foreshard.postgres.digests import ALL_SLOTS, CheckedTable, Drain, TableComparison, compare_tables
from foreshard.postgres.guard import Side
from foreshard.postgres.marker import drain_both

PATIENCE = 5
"""Markers of a comparison may take this many times longer than a flip's: nothing is paused meanwhile."""


def tables_of(work: Work) -> list[CheckedTable]:
    """Every table of every bucket that moves."""
    return [
        CheckedTable(bucket, table, column, work.key_type)
        for bucket in work.buckets
        for table, column in work.tables.items()
    ]


def compare_all(
    work: Work, progress: Callable[[TableComparison], None] | None = None
) -> list[TableComparison]:
    """Compare all tables while both sides are written.

    Raises:
        FlipFailed: a stream does not apply.
    """
    with work.marker_line(Side.SOURCE) as there, work.marker_line(Side.TARGET) as back:
        return _compare(work, drain_both(there, back, _patience(work)), progress)


def compare_stream(work: Work, into: Side, judged: range) -> list[TableComparison]:
    """Compare the rows of ``judged`` slots, that the other side owns, by the stream into this side alone.

    Raises:
        FlipFailed: the stream does not apply.
    """
    with work.marker_line(into.other) as line:

        def drain() -> None:
            line.drain(_patience(work))

        return _compare(work, drain, judged=judged)


def differing(compared: Sequence[TableComparison]) -> list[TableComparison]:
    """Tables with rows that differ, or that were written too often to be judged."""
    return [one for one in compared if one.differences or one.undecided]


def described(compared: Sequence[TableComparison]) -> list[dict[str, Any]]:
    """For the details of an error: each table with the first of its keys. Plain JSON."""
    return [
        {
            "table": f"{one.bucket}.{one.table}",
            "keys": [difference.key for difference in one.differences[:20]],
            "undecided": one.undecided,
        }
        for one in compared
    ]


def _patience(work: Work) -> float:
    return work.settings.marker_timeout_s * PATIENCE


def _compare(
    work: Work,
    drain: Drain,
    progress: Callable[[TableComparison], None] | None = None,
    judged: range = ALL_SLOTS,
) -> list[TableComparison]:
    return compare_tables(
        work.source.dsn,
        work.target.dsn,
        tables_of(work),
        bound=lambda: work.bounds().target or 0,
        drain=drain,
        progress=progress,
        judged=judged,
    )
