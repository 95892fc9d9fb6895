"""Count and digest of every chunk of some tables on both sides, read as of one moment by several sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import dataclass
from typing import TypeAlias

from foreshard.postgres.chunks import ByRange, Chunking, Piece, by_hash, by_range, pieces, wanted_chunks
from foreshard.postgres.connect import Connection
from foreshard.postgres.pair import Sides
from foreshard.postgres.snapshot_pair import SnapshotPair
from foreshard.postgres.table_shape import EVERYTHING, Among, TableShape, among_blocks

Sums: TypeAlias = dict[int, tuple[int, int]]
"""Chunk -> rows and sum of their digests, of all chunks that have rows."""

Scanned: TypeAlias = Callable[[int, float, int], None]
"""Told after every piece: index of the table, fraction of it that is read, rows of the source read so far."""


@dataclass(frozen=True)
class Copies:
    """A table on both sides: what is compared of it, and how large it is there (the target's None: not there)."""

    shape: TableShape
    target: TableShape | None

    @property
    def size(self) -> int:
        """Bytes of the larger one."""
        return max(self.shape.bytes, self.target.bytes if self.target else 0)


@dataclass(frozen=True)
class Digests:
    """What both sides hold by chunks. ``sums.target`` is empty where there is no such table."""

    chunking: Chunking
    sums: Sides[Sums]

    @property
    def differing(self) -> dict[int, int]:
        """Chunks that differ, and the rows of the larger side."""
        source, target = self.sums.source, self.sums.target
        return {
            chunk: max(source.get(chunk, (0, 0))[0], target.get(chunk, (0, 0))[0])
            for chunk in source.keys() | target.keys()
            if source.get(chunk) != target.get(chunk)
        }


def scan(sessions: SnapshotPair, tables: Sequence[Copies], scanned: Scanned) -> list[Digests]:
    """Digest ``tables`` in a snapshot that the sessions have in common, each side with all its sessions.

    ``scanned`` is called in the caller's thread.
    """
    # First of all tables: a look at an index would wait behind the pieces of the tables before it.
    found = [Digests(_chunking(sessions, copies), Sides({}, {})) for copies in tables]
    running: dict[Future[Sums], tuple[int, bool]] = {}
    rows, left = [0] * len(tables), [0] * len(tables)
    try:
        for index, copies in enumerate(tables):
            for of_target, piece in _pieces(copies, len(sessions.source.sessions)):
                side = sessions.target if of_target else sessions.source
                read = _Read(copies.shape, found[index].chunking, among_blocks(piece))
                running[side.start(read)] = (index, of_target)
                left[index] += 1
        total = list(left)
        for done in as_completed(list(running)):
            index, of_target = running.pop(done)  # with it goes its result, which may be large
            sums, part = found[index].sums, done.result()
            add(sums.target if of_target else sums.source, part)
            rows[index] += 0 if of_target else sum(count for count, _ in part.values())
            left[index] -= 1
            scanned(index, 1 - left[index] / total[index], rows[index])
    except BaseException:
        for future in running:
            future.cancel()
        sessions.cancel()  # a scan may have an hour to go
        raise
    return found


def read_sums(session: Connection, shape: TableShape, chunking: Chunking, among: Among = EVERYTHING) -> Sums:
    """Count and digest of the chunks of some rows, in one statement."""
    rows = session.execute(shape.chunks_query(chunking, among), among.parameters)
    return {chunk: (count, int(digest)) for chunk, count, digest in rows}


def add(total: Sums, part: Sums) -> None:
    """Add what was found of the same chunks in other rows."""
    for chunk, (count, digest) in part.items():
        before = total.get(chunk, (0, 0))
        total[chunk] = (before[0] + count, before[1] + digest)


@dataclass(frozen=True)
class _Read:
    shape: TableShape
    chunking: Chunking
    among: Among

    def __call__(self, session: Connection) -> Sums:
        return read_sums(session, self.shape, self.chunking, self.among)


def _chunking(sessions: SnapshotPair, copies: Copies) -> Chunking:
    """By ranges of the leading key column where it is an integer, since its index then leads to a chunk's rows."""
    shape = copies.shape
    rows = max(shape.rows, copies.target.rows if copies.target else 0)
    if not shape.ranged:
        return by_hash(rows)
    if wanted_chunks(rows) == 1 or copies.target is None:
        return ByRange(63)
    spans = sessions.both(lambda session: session.execute(shape.span_query(), {}).fetchone())
    ends = [end for span in (spans.source, spans.target) for end in span or () if end is not None]
    return by_range(rows, min(ends), max(ends)) if ends else ByRange(63)


def _pieces(copies: Copies, workers: int) -> Iterator[tuple[bool, Piece]]:
    """Of both sides in turn: each its own blocks."""
    for of_target, shape in ((False, copies.shape), (True, copies.target)):
        if shape is not None:
            for piece in pieces(shape.bytes, shape.blocks, workers):
                yield of_target, piece
