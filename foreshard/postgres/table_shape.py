"""The columns and the key of a table, and the digest queries that follow from them.

All of them are to be executed with parameters, be they none: a percent sign in a name is doubled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from psycopg import sql

from foreshard.postgres.chunks import ByHash, ByRange, Chunking, Piece
from foreshard.postgres.column import Column, doubled, of_row
from foreshard.postgres.connect import Connection, sql_file
from foreshard.postgres.row_identity import RowIdentity, RowParts, identity_of
from foreshard.postgres.row_text import row_text
from foreshard.topology.keys import SLOT_SEED, SLOTS, KeyType, slot_sql


@dataclass(frozen=True)
class Among:
    """Which rows a query is about: SQL that follows ``FROM table AS t``, and its parameters.

    ``by_index``: whether the key's index leads to them.
    """

    text: sql.Composable
    parameters: Mapping[str, Any]
    by_index: bool = False


EVERYTHING = Among(sql.SQL(""), {})


@dataclass(frozen=True)
class TableShape:
    """Stored columns in order, the key that names a row (empty: none does), size in bytes, rows as last counted.

    ``blocks``: of its largest file; a partitioned table has several.
    """

    bucket: str
    table: str
    columns: tuple[Column, ...]
    key: tuple[Column, ...]
    bytes: int
    rows: int
    blocks: int

    def common(self, other: TableShape) -> TableShape:
        """This shape with the columns that the other has too: the rest is for the catalog check to say."""
        theirs = {column.name: column.type_sql for column in other.columns}

        def compared(column: Column) -> Column:
            return replace(column, alike=theirs.get(column.name) == column.type_sql)

        # What is a key on one side only may be there twice on the other.
        both_have = [column.name for column in self.key] == [column.name for column in other.key]
        return replace(
            self,
            columns=tuple(compared(column) for column in self.columns if column.name in theirs),
            key=tuple(compared(column) for column in self.key) if both_have else (),
        )

    @property
    def identity(self) -> RowIdentity:
        """What tells its rows apart."""
        return identity_of(self.key, self._row_text())

    @property
    def ranged(self) -> bool:
        """Whether the key's index serves ranges of integers."""
        return self.identity.leading is not None

    def span_query(self) -> sql.Composed:
        """Lowest and highest value of the leading key column."""
        return sql_file("digests_span.sql").format(leading=self.key[0].of_row, table=self._table())

    def chunks_query(self, chunking: Chunking, among: Among = EVERYTHING) -> sql.Composed:
        """Chunk, rows, digest of all chunks that have rows."""
        return sql_file("digests_chunks.sql").format(
            chunk=self._chunk(chunking), text=self._row_text(), table=self._table(), among=among.text
        )

    def rows_query(
        self, distribution_column: str, key_type: KeyType, chunking: Chunking, among: Among
    ) -> sql.Composed:
        """Every row of ``among``."""
        return self.identity.rows_query(self._parts(distribution_column, key_type, chunking), among.text)

    def named_query(self, distribution_column: str, key_type: KeyType, chunking: Chunking) -> sql.Composed:
        """The rows of some names; takes one list of text values for each part of the name."""
        return self.identity.named_query(self._parts(distribution_column, key_type, chunking))

    def among_chunks(
        self, chunking: Chunking, chunks: Sequence[int], within: tuple[ByHash, Sequence[int]] | None = None
    ) -> Among:
        """Rows of these chunks; with ``within``, of these parts of them."""
        if isinstance(chunking, ByRange):
            ranges = chunking.ranges_of(chunks)
            text: sql.Composable = sql.SQL(
                " JOIN unnest(%(lows)s::int8[], %(highs)s::int8[]) AS wanted (low, high)"
                " ON {key} BETWEEN wanted.low AND wanted.high"
            ).format(key=self.key[0].of_row)
            parameters: dict[str, Any] = {
                "lows": [low for low, _ in ranges],
                "highs": [high for _, high in ranges],
            }
        else:
            text = sql.SQL(" WHERE {chunk} = ANY (%(chunks)s::int8[])").format(chunk=self._chunk(chunking))
            parameters = {"chunks": list(chunks)}
        if within is not None:
            parts, numbers = within
            text += sql.SQL(" {also} {part} = ANY (%(parts)s::int8[])").format(
                also=sql.SQL("WHERE" if isinstance(chunking, ByRange) else "AND"), part=self._chunk(parts)
            )
            parameters["parts"] = list(numbers)
        return Among(text, parameters, by_index=isinstance(chunking, ByRange))

    def _table(self) -> sql.Identifier:
        return sql.Identifier(doubled(self.bucket), doubled(self.table))

    def _parts(self, distribution_column: str, key_type: KeyType, chunking: Chunking) -> RowParts:
        return RowParts(
            self._table(), slot_of_row(distribution_column, key_type), self._row_text(), self._chunk(chunking)
        )

    def _row_text(self) -> sql.Composable:
        return row_text([(column.of_row, column.common_type) for column in self.columns])

    def _chunk(self, chunking: Chunking) -> sql.Composed:
        """An int8 that comes out the same on both servers."""
        if isinstance(chunking, ByRange):
            return sql.SQL("({key}::int8 >> {shift})").format(
                key=self.key[0].of_row, shift=sql.Literal(chunking.shift)
            )
        return sql.SQL("(({hashed}) & {mask})").format(
            hashed=self.identity.hashed(chunking.seed), mask=sql.Literal(chunking.mask)
        )


def among_blocks(piece: Piece) -> Among:
    """Rows in these blocks (of a partitioned table: of each partition)."""
    bounds = [
        sql.SQL("t.ctid {} {}::tid").format(operator, sql.Literal(f"({block},0)"))
        for operator, block in ((sql.SQL(">="), piece.first), (sql.SQL("<"), piece.end))
        if block is not None
    ]
    return Among(sql.SQL(" WHERE ") + sql.SQL(" AND ").join(bounds), {}) if bounds else EVERYTHING


def slot_of_row(distribution_column: str, key_type: KeyType) -> sql.Composed:
    """An int4: the slot of the row ``t``.

    A row without a key belongs to nobody; preflight refuses such tables. Here the source answers for it.
    """
    return sql.SQL("COALESCE({hash} & {mask}, {slots})::int").format(
        hash=sql.SQL(slot_sql(key_type)).format(key=of_row(distribution_column), seed=sql.Literal(SLOT_SEED)),
        mask=sql.Literal(SLOTS - 1),
        slots=sql.Literal(SLOTS),
    )


def read_shape(session: Connection, bucket: str, table: str) -> TableShape | None:
    """The shape of a table (of a partitioned one: its root), or None where there is none of that name."""
    row = session.execute(sql_file("digests_shape.sql"), {"bucket": bucket, "table": table}).fetchone()
    if row is None:
        return None
    size, rows, blocks, names, types, key_names, key_types = row
    return TableShape(
        bucket,
        table,
        _columns(names, types),
        _columns(key_names or (), key_types or ()),
        size,
        rows,
        blocks,
    )


def _columns(names: Sequence[str], types: Sequence[str]) -> tuple[Column, ...]:
    return tuple(Column(name, type_sql) for name, type_sql in zip(names, types, strict=True))
