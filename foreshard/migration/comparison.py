"""The whole comparison of a migration's copies, under writers: by the stage `verify`, and after a failover."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from typing import Any

from foreshard.migration.work import Work
from foreshard.postgres.connect import Connection
from foreshard.postgres.digests import (
    ALL_SLOTS,
    CheckedTable,
    TableComparison,
    TableProgress,
    compare_tables,
)
from foreshard.postgres.fence import Fence, FencedSide, SharedFence
from foreshard.postgres.guard import Side
from foreshard.postgres.marker import MarkerLine, drain_both
from foreshard.postgres.recheck import Drain

PATIENCE = 5
"""Markers of a comparison may take this many times longer than a flip's: nothing is paused meanwhile."""


def tables_of(work: Work, buckets: Collection[str] = (), tables: Collection[str] = ()) -> list[CheckedTable]:
    """Every table of every bucket that moves; or of these alone, where any are named."""
    return [
        CheckedTable(bucket, table, column, work.key_type)
        for bucket in work.buckets
        for table, column in work.tables.items()
        if (not buckets or bucket in buckets) and (not tables or table in tables)
    ]


def compare_all(
    work: Work,
    progress: Callable[[TableProgress], None] | None = None,
    *,
    buckets: Collection[str] = (),
    tables: Collection[str] = (),
) -> list[TableComparison]:
    """Compare all tables while both sides are written, or those of ``buckets`` and ``tables``.

    Raises:
        FlipFailed: a stream does not apply.
    """
    with work.marker_line(Side.SOURCE) as there, work.marker_line(Side.TARGET) as back:
        drain = drain_both(there, back, patience_s(work))
        fence = fence_of(work, {Side.SOURCE: there, Side.TARGET: back})
        return _compare(work, tables_of(work, buckets, tables), drain, fence, progress)


def compare_stream(work: Work, into: Side, judged: range) -> list[TableComparison]:
    """Compare the rows of ``judged`` slots, that the other side owns, by the stream into this side alone.

    Raises:
        FlipFailed: the stream does not apply.
    """
    with work.marker_line(into.other) as line:

        def drain() -> None:
            line.drain(patience_s(work))

        return _compare(work, tables_of(work), drain, fence_of(work, {into.other: line}), judged=judged)


def fence_of(work: Work, lines: dict[Side, MarkerLine]) -> Fence:
    """The migration's fence on the sides from which there are ``lines``: their writers wait for a look at both."""

    def session(side: Side) -> Callable[[], AbstractContextManager[Connection]]:
        return lambda: work.connection(side)

    return SharedFence(
        work.names.number,
        [FencedSide(session(side), line) for side, line in lines.items()],
        lock_timeout_ms=work.settings.lock_timeout_ms,
        patience_s=patience_s(work),
    )


def patience_s(work: Work) -> float:
    """How long a comparison waits for a marker."""
    return work.settings.marker_timeout_s * PATIENCE


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


def _compare(
    work: Work,
    tables: Sequence[CheckedTable],
    drain: Drain,
    fence: Fence,
    progress: Callable[[TableProgress], None] | None = None,
    judged: range = ALL_SLOTS,
) -> list[TableComparison]:
    return compare_tables(
        work.source.dsn,
        work.target.dsn,
        tables,
        bound=lambda: work.bounds().target or 0,
        drain=drain,
        fence=fence,
        workers=work.settings.verify_workers,
        progress=progress,
        judged=judged,
    )
