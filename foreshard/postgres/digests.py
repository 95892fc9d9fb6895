"""Compares the copies of tables on two servers, chunk by chunk, under live writes, without false alarms.

1. Of a group of tables, or one large one, count and digest of every chunk are read on both sides in a pair of snapshots
   that are about a millisecond apart (`digest_scan`). Between them only what was written just then differs. Each
   snapshot lasts for one group: on both servers that holds vacuum back for as long as the group's scan, no longer.
2. Rows of the chunks that differ are read now, and watched if they differ (`recheck`).
3. Keys that are written all the time differ at every moment. Where there is a fence (`foreshard.postgres.fence`) they
   are judged in a pair of snapshots taken while nobody writes; else they are undecided.

What this cannot find: a broken fence. A write lost there is lost on both sides, and the copies are equal; only a
client-side history shows it. Nor a difference that came after its chunk was read, or in generated columns, which
each server computes for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from foreshard.errors import NotFound
from foreshard.postgres.chunk_digest import ChunkDigest, told
from foreshard.postgres.chunks import grouped
from foreshard.postgres.digest_scan import Copies, Digests, scan
from foreshard.postgres.fence import Fence
from foreshard.postgres.last_word import Word
from foreshard.postgres.recheck import Bound, Drain, Findings, Recheck
from foreshard.postgres.snapshot_pair import SnapshotPair, open_snapshot_pair
from foreshard.postgres.table_shape import read_shape
from foreshard.topology.keys import SLOTS, KeyType

CHUNKS = 16
"""In how many chunks a table's result is told. Those that are compared are many more."""

GROUP_BYTES = 256 << 20
"""Tables that share a snapshot: small ones are not worth one each."""

WORKERS = 1
"""Sessions on each side. Each takes a processor there, and a shard is emptied because it is short of them; and one
reads tables whole, which leaves the application's buffers alone (`foreshard.postgres.chunks.pieces`)."""

ALL_SLOTS = range(SLOTS)


@dataclass(frozen=True)
class CheckedTable:
    """One table of one bucket. ``distribution_column`` carries the key, of type ``key_type``."""

    bucket: str
    table: str
    distribution_column: str
    key_type: KeyType


@dataclass(frozen=True)
class RowDifference:
    """A row that differs. ``kind`` is missing, ghost or changed, as seen from the key's owner.

    ``key`` names it for people: by its key or, in a table without one, by the digest of its contents and how often it
    is there on each side.
    """

    chunk: int
    key: str
    kind: Word


@dataclass(frozen=True)
class TableComparison:
    """What is known of one table. ``bytes`` is the source's table size.

    ``rechecked``: chunks that differed at first, of those that were compared; ``rechecked_rows``: their rows.
    ``fence_ms``: how long writers may have waited, for all tables together; each has its share by its keys.
    """

    bucket: str
    table: str
    chunks: tuple[ChunkDigest, ...]
    differences: tuple[RowDifference, ...]
    rows: int
    bytes: int
    rechecked: int
    rechecked_rows: int
    fence_ms: float

    @property
    def undecided(self) -> int:
        """Keys that were written too often to be judged, or were left after very many differences."""
        return sum(chunk.undecided for chunk in self.chunks)


@dataclass(frozen=True)
class TableProgress:
    """How much of a table was scanned: ``done`` of ``total`` bytes, ``rows`` of the source."""

    bucket: str
    table: str
    done: float
    total: int
    rows: int


def compare_tables(
    source_conninfo: str,
    target_conninfo: str,
    tables: Sequence[CheckedTable],
    *,
    bound: Bound,
    drain: Drain,
    fence: Fence | None = None,
    chunks: int = CHUNKS,
    workers: int = WORKERS,
    progress: Callable[[TableProgress], None] | None = None,
    judged: range = ALL_SLOTS,
    witness: Callable[[SnapshotPair], None] | None = None,
) -> list[TableComparison]:
    """Compare every table, with ``workers`` sessions on each side; the result is in their order, in ``chunks`` each.

    ``progress`` is told of each table before the first one is scanned, and then of each piece. Rows of slots that
    are not ``judged`` are left out of differences and undecided keys: their stream may not run. ``witness`` is called
    at the end with the sessions that have read everything.
    Rows without a key are compared as a multiset (`foreshard.postgres.row_identity`).
    Raises `NotFound` if the source lacks a table.
    """
    with ExitStack() as stack:
        sessions = stack.enter_context(open_snapshot_pair(source_conninfo, target_conninfo, workers))
        comparisons = [_Comparison(sessions, checked, bound, drain, judged, chunks) for checked in tables]
        report = progress or _nobody
        for comparison in comparisons:
            report(comparison.progress(0.0, 0))
        for indexes in grouped([comparison.copies.size for comparison in comparisons], GROUP_BYTES):
            group = [comparisons[index] for index in indexes]
            drain()  # so that old backlog does not look like differences
            with sessions.at_one_moment():
                digests = scan(sessions, [one.copies for one in group], partial(_report, group, report))
            for comparison, found in zip(group, digests, strict=True):
                comparison.recheck(found)
        if fence is not None:
            _judge_fenced(sessions, comparisons, fence, bound)
        if witness is not None:
            witness(sessions)
        return [comparison.result() for comparison in comparisons]


def _judge_fenced(
    sessions: SnapshotPair, comparisons: Sequence[_Comparison], fence: Fence, bound: Bound
) -> None:
    """One fence for all keys that are unsettled. If it cannot be had they stay so."""
    open_ones = [comparison for comparison in comparisons if comparison.findings.unsettled]
    if not open_ones:
        return
    keys = sum(len(comparison.findings.unsettled) for comparison in open_ones)
    with ExitStack() as snapshots:

        def look() -> None:
            snapshots.close()  # of an attempt that failed afterwards
            snapshots.enter_context(sessions.at_one_moment())

        paused = fence(look)
        of = bound()
        for comparison in open_ones:
            comparison.findings.fence_ms = paused.ms * len(comparison.findings.unsettled) / keys
            if paused.held:
                comparison.judge(of)


class _Comparison:
    """One table's way through it."""

    def __init__(
        self,
        sessions: SnapshotPair,
        checked: CheckedTable,
        bound: Bound,
        drain: Drain,
        judged: range,
        chunks: int,
    ) -> None:
        self._sessions, self._checked, self._chunks = sessions, checked, chunks
        self._bound, self._drain, self._judged = bound, drain, judged
        self.copies = self._find()
        self.findings = Findings()
        self._digests: Digests | None = None
        self._told: tuple[ChunkDigest, ...] = ()

    def _find(self) -> Copies:
        bucket, table = self._checked.bucket, self._checked.table
        shapes = self._sessions.both(lambda session: read_shape(session, bucket, table))
        if shapes.source is None:
            raise NotFound(f"The source has no table {bucket}.{table}.", bucket=bucket, table=table)
        shape = shapes.source if shapes.target is None else shapes.source.common(shapes.target)
        return Copies(shape, shapes.target)

    def progress(self, fraction: float, rows: int) -> TableProgress:
        """That much of it was scanned."""
        total = self.copies.shape.bytes
        return TableProgress(self._checked.bucket, self._checked.table, total * fraction, total, rows)

    def recheck(self, digests: Digests) -> None:
        """Look at what differs in the digests."""
        self._digests = digests
        if self.copies.target is not None and digests.differing:
            self.findings = self._rows(digests).run(digests.differing)
        if not self.findings.unsettled:
            self._tell()

    def judge(self, bound: int) -> None:
        """The last word on what is unsettled, while the sessions read as of the fence."""
        assert self._digests is not None
        self._rows(self._digests).judge(self.findings, bound)

    def result(self) -> TableComparison:
        """What is known."""
        self._tell()
        table, findings = self.copies.shape, self.findings
        identity = table.identity
        return TableComparison(
            table.bucket,
            table.table,
            self._told,
            tuple(
                RowDifference(
                    findings.chunk_of[key] % self._chunks, identity.described(key, findings.seen[key]), word
                )
                for key, word in sorted(findings.words.items())
                if word is not Word.UNSETTLED
            ),
            rows=sum(chunk.source_rows for chunk in self._told),
            bytes=table.bytes,
            rechecked=len(findings.read),
            rechecked_rows=findings.rows,
            fence_ms=findings.fence_ms,
        )

    def _tell(self) -> None:
        """Fold the digests; of many large tables they would fill the memory."""
        if self._digests is not None:
            there = self.copies.target is not None
            self._told = tuple(told(self._digests, self.findings, self._chunks, target_is_there=there))
            self._digests = None

    def _rows(self, digests: Digests) -> Recheck:
        return Recheck(
            self._sessions,
            self.copies.shape,
            digests.chunking,
            (self._checked.distribution_column, self._checked.key_type),
            self._bound,
            self._drain,
            self._judged,
        )


def _report(
    group: Sequence[_Comparison],
    report: Callable[[TableProgress], None],
    index: int,
    fraction: float,
    rows: int,
) -> None:
    report(group[index].progress(fraction, rows))


def _nobody(progress: TableProgress) -> None:
    del progress
