"""Compares the copies of a table on two servers, chunk by chunk, under live writes, without false alarms.

Count and digest of every chunk are read on both sides at once. Chunks that differ are read row by row, and
rows that differ are watched (`foreshard.postgres.last_word`) until the difference is certain or gone.

What this cannot find: a broken fence. A write lost there is lost on both sides, and the copies are equal;
only a client-side history shows it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass, replace
from queue import SimpleQueue
from threading import Lock
from typing import Any, TypeAlias

from foreshard.errors import InvalidInput, NotFound
from foreshard.postgres.connect import Connection
from foreshard.postgres.last_word import Key, Reading, Readings, Seen, Word, last_word
from foreshard.postgres.pair import Pair, Sides, open_pair
from foreshard.postgres.table_shape import TableShape, read_shape
from foreshard.topology.keys import SLOTS, KeyType

CHUNKS = 16
ALL_SLOTS = range(SLOTS)
ROUNDS = 40
"""How often a key that is being written is looked at again before it is called undecided."""

Drain: TypeAlias = Callable[[], None]
"""Returns when everything committed on either side before the call has been applied on the other."""

Bound: TypeAlias = Callable[[], int]
"""The ownership bound now: the target owns the slots below it."""


@dataclass(frozen=True)
class CheckedTable:
    """One table of one bucket. ``distribution_column`` carries the key, of type ``key_type``."""

    bucket: str
    table: str
    distribution_column: str
    key_type: KeyType


@dataclass(frozen=True)
class ChunkDigest:
    """One chunk on both sides; digests are decimal text. The target's are None where it has no such table.

    After a re-check by row that found the rows equal, both sides show what the source showed.
    """

    chunk: int
    source_rows: int
    source_digest: str
    target_rows: int | None
    target_digest: str | None
    rechecked: bool = False
    undecided: int = 0


@dataclass(frozen=True)
class RowDifference:
    """A row that differs. ``kind`` is missing, ghost or changed, as seen from the key's owner."""

    chunk: int
    key: str
    kind: Word


@dataclass(frozen=True)
class TableComparison:
    """What is known of one table. ``bytes`` is the source's table size, ``rechecked`` counts chunks."""

    bucket: str
    table: str
    chunks: tuple[ChunkDigest, ...]
    differences: tuple[RowDifference, ...]
    rows: int
    bytes: int
    seconds: float
    rechecked: int

    @property
    def undecided(self) -> int:
        """Keys that were written too often to be judged."""
        return sum(chunk.undecided for chunk in self.chunks)


def compare_tables(
    source_conninfo: str,
    target_conninfo: str,
    tables: Sequence[CheckedTable],
    *,
    bound: Bound,
    drain: Drain,
    chunks: int = CHUNKS,
    workers: int = 2,
    progress: Callable[[TableComparison], None] | None = None,
    judged: range = ALL_SLOTS,
) -> list[TableComparison]:
    """Compare every table, ``workers`` at a time with two sessions each; the result is in their order.

    ``bound`` and ``drain`` are called by one thread at a time. ``progress`` is told each finished table. Rows of slots
    that are not ``judged`` are left out of differences and undecided keys: their stream may not run.
    Raises `NotFound` if the source lacks a table, `InvalidInput` if a table has no key to name its rows by.
    """
    one_at_a_time = Lock()

    def locked_bound() -> int:
        with one_at_a_time:
            return bound()

    def locked_drain() -> None:
        with one_at_a_time:
            drain()

    free: SimpleQueue[Pair] = SimpleQueue()

    def compare(checked: CheckedTable) -> TableComparison:
        pair = free.get()
        try:
            return _Comparison(pair, checked, chunks, locked_bound, locked_drain, judged).run()
        finally:
            free.put(pair)

    locked_drain()  # so that old backlog does not look like differences
    with ExitStack() as stack:
        for _ in range(min(workers, len(tables))):  # opened once: there may be thousands of small tables
            free.put(stack.enter_context(open_pair(source_conninfo, target_conninfo)))
        pool = stack.enter_context(ThreadPoolExecutor(workers, thread_name_prefix="foreshard-digests"))
        running = [pool.submit(compare, checked) for checked in tables]
        try:
            for done in as_completed(running):
                if progress:
                    progress(done.result())
            return [done.result() for done in running]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


class _Comparison:
    def __init__(
        self, pair: Pair, checked: CheckedTable, chunks: int, bound: Bound, drain: Drain, judged: range
    ) -> None:
        self._pair, self._checked, self._chunks = pair, checked, chunks
        self._bound, self._drain, self._judged = bound, drain, judged

    def run(self) -> TableComparison:
        started = time.monotonic()
        shape, target_has_table = self._common_shape()
        chunks = self._digest_chunks(shape, target_has_table)
        differing = [chunk.chunk for chunk in chunks if chunk.target_rows is not None and _differs(chunk)]
        differences: tuple[RowDifference, ...] = ()
        if differing:
            chunks, differences = self._recheck(shape, chunks, differing)
        return TableComparison(
            self._checked.bucket,
            self._checked.table,
            chunks,
            differences,
            rows=sum(chunk.source_rows for chunk in chunks),
            bytes=shape.bytes,
            seconds=time.monotonic() - started,
            rechecked=len(differing),
        )

    def _common_shape(self) -> tuple[TableShape, bool]:
        """The source's shape, and whether the target has such a table.

        Of the columns, those that both sides have: the rest is for the catalog check to say.
        """
        bucket, table = self._checked.bucket, self._checked.table
        shapes = self._pair.both(lambda session: read_shape(session, bucket, table))
        if shapes.source is None:
            raise NotFound(f"The source has no table {bucket}.{table}.", bucket=bucket, table=table)
        if not shapes.source.key:
            raise InvalidInput(
                f"{bucket}.{table}",
                "has neither a primary key nor a replica identity index, so its rows cannot be told apart",
                remedy="Give it a primary key.",
            )
        if shapes.target is None:
            return shapes.source, False
        on_target = set(shapes.target.columns)
        common = tuple(name for name in shapes.source.columns if name in on_target)
        return replace(shapes.source, columns=common), True

    def _digest_chunks(self, shape: TableShape, target_has_table: bool) -> tuple[ChunkDigest, ...]:
        query = shape.chunks_query(self._chunks)

        def read(session: Connection) -> dict[int, tuple[int, str]]:
            return {chunk: (int(rows), digest) for chunk, rows, digest in session.execute(query, {})}

        empty = (0, "0")
        if not target_has_table:
            alone = read(self._pair.source)
            return tuple(
                ChunkDigest(chunk, *alone.get(chunk, empty), None, None) for chunk in range(self._chunks)
            )
        found = self._pair.both(read)
        return tuple(
            ChunkDigest(chunk, *found.source.get(chunk, empty), *found.target.get(chunk, empty))
            for chunk in range(self._chunks)
        )

    def _recheck(
        self, shape: TableShape, chunks: tuple[ChunkDigest, ...], differing: list[int]
    ) -> tuple[tuple[ChunkDigest, ...], tuple[RowDifference, ...]]:
        seen = self._pair.both(lambda session: self._read_chunks(session, shape, differing))
        rows = {**seen.target, **seen.source}
        suspects = {
            key: row.chunk
            for key, row in rows.items()
            if row.slot in self._judged and _digest(seen.source, key) != _digest(seen.target, key)
        }
        words = self._watch(shape, seen, suspects)
        undecided = Counter(suspects[key] for key, word in words.items() if word is Word.UNSETTLED)
        differences = tuple(
            RowDifference(suspects[key], shape.name_row(key), word)
            for key, word in sorted(words.items())
            if word is not Word.UNSETTLED
        )
        bad = {difference.chunk for difference in differences}
        settled = (
            chunk
            if chunk.chunk not in differing
            else replace(
                chunk,
                # Equal rows, read at slightly different moments: what the source showed stands for both.
                target_rows=chunk.target_rows if chunk.chunk in bad else chunk.source_rows,
                target_digest=chunk.target_digest if chunk.chunk in bad else chunk.source_digest,
                rechecked=True,
                undecided=undecided[chunk.chunk],
            )
            for chunk in chunks
        )
        return tuple(settled), differences

    def _watch(self, shape: TableShape, seen: Sides[Reading], suspects: Collection[Key]) -> dict[Key, Word]:
        """The last word on each suspect that is not equal."""
        words: dict[Key, Word] = dict.fromkeys(suspects, Word.UNSETTLED)
        before = seen
        for _ in range(ROUNDS):
            unsettled = [key for key, word in words.items() if word is Word.UNSETTLED]
            if not unsettled:
                break
            bound = self._bound()
            first = self._read_keys(shape, unsettled)
            self._drain()
            middle = self._read_keys(shape, unsettled)
            last = self._read_keys(shape, unsettled)
            if self._bound() == bound:
                readings = Readings(before, first, middle, last, bound)
                words.update((key, last_word(key, readings)) for key in unsettled)
            before = last
        return {key: word for key, word in words.items() if word is not Word.EQUAL}

    def _read_chunks(self, session: Connection, shape: TableShape, chunks: list[int]) -> Reading:
        query = shape.rows_query(self._checked.distribution_column, self._checked.key_type, self._chunks)
        return _reading(session.execute(query, {"chunks": chunks}))

    def _read_keys(self, shape: TableShape, keys: Sequence[Key]) -> Sides[Reading]:
        query = shape.keys_query(self._checked.distribution_column, self._checked.key_type, self._chunks)
        values = [list(column) for column in zip(*keys, strict=True)]
        return self._pair.both(lambda session: _reading(session.execute(query, values)))


def _reading(rows: Iterable[tuple[Any, ...]]) -> Reading:
    return {tuple(key): Seen(slot, version, digest, chunk) for key, slot, version, digest, chunk in rows}


def _digest(reading: Reading, key: Key) -> int | None:
    seen = reading.get(key)
    return seen.digest if seen else None


def _differs(chunk: ChunkDigest) -> bool:
    return (chunk.source_rows, chunk.source_digest) != (chunk.target_rows, chunk.target_digest)
