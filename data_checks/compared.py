"""What a comparison of both copies came to, in figures: shown beside the gate's verdict, judged by nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foreshard.postgres.digests import TableComparison

NAMED = 50
"""Differing rows that are named."""


@dataclass(frozen=True)
class DifferingRow:
    """A row, by its key, that is missing, ghost or changed on the side that does not own it."""

    bucket: str
    table: str
    chunk: int
    key: str
    kind: str


@dataclass(frozen=True)
class Compared:
    """``rows`` and ``bytes`` are the source's. ``rechecked`` chunks differed at first; ``rechecked_rows`` are theirs.

    ``fence_ms``: how long writers may have waited. ``differing`` are the first of ``differences`` rows.
    """

    buckets: int
    tables: int
    chunks: int
    rows: int
    bytes: int
    rechecked: int
    rechecked_rows: int
    undecided: int
    differences: int
    differing: tuple[DifferingRow, ...]
    fence_ms: float
    seconds: float


def compared(comparisons: Sequence[TableComparison], seconds: float) -> Compared:
    """The figures of ``comparisons``, which took ``seconds`` with everything that was collected beside them."""
    differing = [
        DifferingRow(one.bucket, one.table, row.chunk, row.key, row.kind.value)
        for one in comparisons
        for row in one.differences
    ]
    return Compared(
        buckets=len({one.bucket for one in comparisons}),
        tables=len(comparisons),
        chunks=sum(len(one.chunks) for one in comparisons),
        rows=sum(one.rows for one in comparisons),
        bytes=sum(one.bytes for one in comparisons),
        rechecked=sum(one.rechecked for one in comparisons),
        rechecked_rows=sum(one.rechecked_rows for one in comparisons),
        undecided=sum(one.undecided for one in comparisons),
        differences=len(differing),
        differing=tuple(differing[:NAMED]),
        fence_ms=sum(one.fence_ms for one in comparisons),
        seconds=round(seconds, 3),
    )
