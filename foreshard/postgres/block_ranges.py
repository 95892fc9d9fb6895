"""Which tables hold the rows of buckets, and the ranges of blocks by which they are copied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foreshard.postgres.connect import Connection, sql_file

CHUNK_BYTES = 2**30
"""What a failure costs to copy again. No less, because a table is better copied whole: the source reads it through a
small ring of buffers, while a range of blocks drives out what the application has there; and the target can freeze its
rows, which saves a seventh of the work now and a vacuum later."""


@dataclass(frozen=True)
class Leaf:
    """A table that holds rows on the source: one of the fleet's, or a partition of one, at whatever level.

    ``blocks`` of its heap, and ``bytes`` with TOAST, as they were when the snapshot existed already.
    """

    bucket: str
    table: str
    schema: str
    name: str
    blocks: int
    bytes: int


@dataclass(frozen=True)
class BlockRange:
    """Blocks of one leaf from ``first`` to before ``end`` (None: all there are), and their ``bytes`` with TOAST."""

    leaf: Leaf
    first: int
    end: int | None
    bytes: int

    @property
    def whole(self) -> bool:
        """Whether it is all that comes into a table of the target."""
        leaf = self.leaf
        return self.first == 0 and self.end is None and (leaf.schema, leaf.name) == (leaf.bucket, leaf.table)


def leaves(conn: Connection, buckets: Sequence[str], tables: Sequence[str]) -> list[Leaf]:
    """All leaves of those tables in those buckets; one without rows too. After the snapshot exists."""
    rows = conn.execute(sql_file("copy_leaves.sql"), {"buckets": list(buckets), "tables": list(tables)})
    return [Leaf(*row) for row in rows]


def columns(
    conn: Connection, buckets: Sequence[str], tables: Sequence[str]
) -> dict[tuple[str, str], list[str]]:
    """Stored columns of every table, in order, by (bucket, table); empty for a table that has none."""
    rows = conn.execute(sql_file("copy_columns.sql"), {"buckets": list(buckets), "tables": list(tables)})
    return {(bucket, table): list(names) for bucket, table, names in rows}


def split(leaf: Leaf, chunk_bytes: int) -> list[BlockRange]:
    """The leaf in ranges of about ``chunk_bytes``; together they hold every row, wherever it stands.

    The last one has no end: a row that the snapshot sees may stand behind the blocks that were counted.
    """
    count = max(1, min(leaf.blocks, round(leaf.bytes / chunk_bytes)))
    bounds = [leaf.blocks * number // count for number in range(count)]
    parts = [leaf.bytes * (number + 1) // count - leaf.bytes * number // count for number in range(count)]
    ends = [*bounds[1:], None]
    return [BlockRange(leaf, *one) for one in zip(bounds, ends, parts, strict=True)]


def in_order(all_leaves: Sequence[Leaf], chunk_bytes: int) -> list[BlockRange]:
    """All ranges; the largest tables first, or one of them would be left for a single worker at the end."""
    return [
        part
        for leaf in sorted(all_leaves, key=lambda one: one.bytes, reverse=True)
        for part in split(leaf, chunk_bytes)
    ]
