"""Into which chunks and pieces tables are cut for a comparison. Pure.

A **chunk** is a set of keys, the same on both servers: its rows must be equal. A **piece** is a range of blocks of one
server's file, which one session scans; it holds rows of many chunks, whose counts and digests are added up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

ROWS_PER_CHUNK = 1000
MAX_CHUNKS = 16_384
PIECE_BYTES = 32 << 20
MAX_PIECES = 64
"""Each piece answers with a row for every chunk that it meets."""

INT8_MIN, INT8_MAX = -(1 << 63), (1 << 63) - 1
_SHIFTS = range(64)


@dataclass(frozen=True)
class ByRange:
    """Chunk = leading key column ``>> shift``, which rounds down: 2^shift consecutive values.

    No boundaries are kept, so keys that come later, or on one side only, have their chunk too. Nothing overflows.
    """

    shift: int

    def range_of(self, first: int, last: int) -> tuple[int, int]:
        """Lowest and highest int8 key of the chunks ``first`` to ``last``."""
        low, high = first << self.shift, ((last + 1) << self.shift) - 1
        return max(low, INT8_MIN), min(high, INT8_MAX)

    def ranges_of(self, chunks: Iterable[int]) -> list[tuple[int, int]]:
        """Ranges of keys that cover exactly these chunks: neighbours are one range."""
        runs: list[list[int]] = []
        for chunk in sorted(set(chunks)):
            if runs and runs[-1][1] + 1 == chunk:
                runs[-1][1] = chunk
            else:
                runs.append([chunk, chunk])
        return [self.range_of(first, last) for first, last in runs]


@dataclass(frozen=True)
class ByHash:
    """Chunk = the lowest ``bits`` bits of a hash of the whole key, by which ``seed``."""

    bits: int
    seed: int = 1

    @property
    def mask(self) -> int:
        """The bits that make the chunk."""
        return (1 << self.bits) - 1


Chunking: TypeAlias = ByRange | ByHash


def wanted_chunks(rows: int) -> int:
    """About one for a thousand rows, at least one."""
    return min(MAX_CHUNKS, max(1, rows // ROWS_PER_CHUNK))


def by_hash(rows: int, seed: int = 1) -> ByHash:
    """For about that many rows."""
    return ByHash((wanted_chunks(rows) - 1).bit_length(), seed)


def by_range(rows: int, low: int, high: int) -> ByRange:
    """For about that many rows with keys of ``low`` to ``high``: at most as many chunks as wanted (or two around 0)."""
    wanted = wanted_chunks(rows)
    for shift in _SHIFTS:
        if (high >> shift) - (low >> shift) < wanted:
            return ByRange(shift)
    return ByRange(_SHIFTS[-1])


@dataclass(frozen=True)
class Piece:
    """Blocks of one file: from ``first`` (None: the beginning) to before ``end`` (None: whatever comes)."""

    first: int | None
    end: int | None


def pieces(size: int, blocks: int, workers: int) -> list[Piece]:
    """Cut a table of ``size`` bytes, whose largest file has ``blocks`` blocks, for so many sessions.

    One session takes it whole: only then PostgreSQL reads it through a small ring of buffers. A range of blocks goes
    through all of them, and drives out what the application has there. The ends are open: the file may have grown
    since it was measured, and rows have moved to its new blocks.
    """
    count = max(1, min(MAX_PIECES, size // PIECE_BYTES, blocks)) if workers > 1 else 1
    cuts = [blocks * number // count for number in range(1, count)]
    return [Piece(first, end) for first, end in zip([None, *cuts], [*cuts, None], strict=True)]


def grouped(sizes: Sequence[int], limit: int) -> Iterator[list[int]]:
    """Indexes of ``sizes`` in order, in groups whose sum stays within ``limit``; what is larger is alone."""
    group: list[int] = []
    total = 0
    for index, size in enumerate(sizes):
        if group and total + size > limit:
            yield group
            group, total = [], 0
        group.append(index)
        total += size
    if group:
        yield group


def batches(rows: Mapping[int, int], limit: int) -> Iterator[list[int]]:
    """Chunks in order, in batches whose ``rows`` together stay within ``limit``; a larger one is alone."""
    chunks = sorted(rows)
    for group in grouped([rows[chunk] for chunk in chunks], limit):
        yield [chunks[index] for index in group]
