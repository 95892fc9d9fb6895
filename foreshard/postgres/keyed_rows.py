"""Rows of one table by their keys: what is in them, column by column; and how they are written anew on another server.

Sessions are pinned (`foreshard.postgres.pair`): what is told, compared or copied as text means the same on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from foreshard.errors import NotFound
from foreshard.postgres.column import doubled, of_row
from foreshard.postgres.connect import Connection, sql_file
from foreshard.postgres.last_word import Key
from foreshard.postgres.pair import Sides
from foreshard.postgres.table_shape import TableShape, read_shape
from foreshard.topology.keys import SLOT_SEED, SLOTS, KeyType, slot_sql


@dataclass(frozen=True)
class KeyedRow:
    """``slot`` of its distribution key; a digest of each column; its values as text, cut, where they were asked for."""

    slot: int
    digests: tuple[int, ...]
    values: tuple[str | None, ...] | None = None


class KeyedRows:
    """The rows of one table that both sides have. ``columns``: those that are compared and copied, in order.

    Generated columns are left out: each server computes its own. Identity columns are copied as they are.
    """

    def __init__(self, shape: TableShape, distribution_column: str, key_type: KeyType) -> None:
        self._plain = sql.Identifier(shape.bucket, shape.table)
        self._table = sql.Identifier(doubled(shape.bucket), doubled(shape.table))
        self._key = shape.key
        self._stored = shape.columns
        self._slot = slot_sql(key_type), distribution_column
        self.columns = tuple(column.name for column in shape.columns)
        self.keyed = bool(self._key)

    def read(self, session: Connection, keys: Sequence[Key], cut: int | None = None) -> dict[Key, KeyedRow]:
        """Those of the rows that are there; with their values, at most ``cut`` characters of each, if it is given."""
        if not keys:
            return {}
        hashed, distribution_column = self._slot
        query = sql_file("keyed_rows.sql").format(
            key=_listed([sql.SQL("{}::text").format(column.of_row) for column in self._key]),
            hash=sql.SQL(hashed).format(key=of_row(distribution_column), seed=sql.Literal(SLOT_SEED)),
            mask=sql.Literal(SLOTS - 1),
            slots=sql.Literal(SLOTS),
            table=self._table,
            digests=_listed(
                [
                    sql.SQL('hashtextextended(ROW({})::text COLLATE "C", 0)').format(column.of_row)
                    for column in self._stored
                ]
            ),
            values=sql.SQL("NULL::text[]")
            if cut is None
            else sql.SQL("ARRAY[{}]").format(
                _listed(
                    [
                        sql.SQL("left({}::text, {})").format(column.of_row, sql.Literal(cut))
                        for column in self._stored
                    ]
                )
            ),
            wanted=self._wanted(),
        )
        return {
            tuple(key): KeyedRow(slot, tuple(digests), None if values is None else tuple(values))
            for key, slot, digests, values in session.execute(query, _parameters(keys))
        }

    def lock(self, session: Connection) -> None:
        """Nobody else writes the table, and nothing is applied to it, until the transaction ends."""
        session.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(self._plain))

    def rewrite(self, reader: Connection, writer: Connection, keys: Sequence[Key]) -> None:
        """On ``writer`` these keys have the rows that they have on ``reader``, or none. Inside a transaction.

        All are deleted before the first one is written: values of a unique column may have changed places. COPY
        writes identity columns as they are and routes rows to partitions.
        """
        writer.execute(
            sql.SQL("DELETE FROM {} AS t USING {}").format(self._table, self._wanted(" WHERE ")),
            _parameters(keys),
        )
        reading = sql.SQL("COPY (SELECT {} FROM {} AS t JOIN {}) TO STDOUT").format(
            _listed([column.of_row for column in self._stored]), self._table, self._wanted()
        )
        writing = sql.SQL("COPY {} ({}) FROM STDIN").format(
            self._plain, _listed([sql.Identifier(name) for name in self.columns])
        )
        with (
            reader.cursor() as source,
            writer.cursor() as target,
            source.copy(reading, _parameters(keys)) as rows,
            target.copy(writing) as into,
        ):
            for block in rows:
                into.write(block)

    def _wanted(self, join: str = " ON ") -> sql.Composed:
        """The wanted keys as a relation, and that a row ``t`` is one of them."""
        names = [sql.Identifier(f"k{number}") for number in range(len(self._key))]
        same = sql.SQL(" AND ").join(
            # The type's text comes from the server's own format_type, which quotes what needs it.
            sql.SQL("{} = {}::{}").format(column.of_row, wanted, sql.SQL(doubled(column.type_sql)))
            for column, wanted in zip(self._key, names, strict=True)
        )
        return sql.SQL("unnest({arrays}) AS wanted ({names}){join}{same}").format(
            arrays=_listed([sql.SQL("%s::text[]")] * len(names)),
            names=_listed(names),
            join=sql.SQL(join),
            same=same,
        )


def keyed_rows(
    sessions: Sides[Connection], bucket: str, table: str, column: str, key_type: KeyType
) -> KeyedRows:
    """The table with the columns that both sides have. Raises `NotFound` where a side lacks the table."""
    shapes = [read_shape(session, bucket, table) for session in (sessions.source, sessions.target)]
    source, target = shapes
    if source is None or target is None:
        lacking = "source" if source is None else "target"
        raise NotFound(f"The {lacking} has no table {bucket}.{table}.", bucket=bucket, table=table)
    return KeyedRows(source.common(target), column, key_type)


def _parameters(keys: Sequence[Key]) -> list[list[str]]:
    return [list(column) for column in zip(*keys, strict=True)]


def _listed(parts: Sequence[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(parts)
