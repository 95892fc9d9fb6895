"""Rows of one table by their keys: what is in them, column by column; and how they are written anew on another server.

Sessions are pinned (`foreshard.postgres.pair`): what is told, compared or copied as text means the same on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from foreshard.errors import NotFound
from foreshard.postgres.column import doubled
from foreshard.postgres.connect import Connection, sql_file
from foreshard.postgres.last_word import Key
from foreshard.postgres.pair import Sides
from foreshard.postgres.table_shape import TableShape, read_shape, slot_of_row
from foreshard.postgres.wanted_keys import WantedKeys, parameters
from foreshard.topology.keys import KeyType


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
        self._wanted = WantedKeys(shape.key)
        self._stored = shape.columns
        self._slot = slot_of_row(distribution_column, key_type)
        self.columns = tuple(column.name for column in shape.columns)
        self.keyed = bool(shape.key)

    def read(self, session: Connection, keys: Sequence[Key], cut: int | None = None) -> dict[Key, KeyedRow]:
        """Those of the rows that are there; with their values, at most ``cut`` characters of each, if it is given."""
        if not keys:
            return {}
        query = sql_file("keyed_rows.sql").format(
            key=self._wanted.as_text,
            slot=self._slot,
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
            wanted=self._wanted.relation,
            same_key=self._wanted.same,
        )
        return {
            tuple(key): KeyedRow(slot, tuple(digests), None if values is None else tuple(values))
            for key, slot, digests, values in session.execute(query, parameters(keys))
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
            sql.SQL("DELETE FROM {} AS t USING {} WHERE {}").format(
                self._table, self._wanted.relation, self._wanted.same
            ),
            parameters(keys),
        )
        reading = sql.SQL("COPY (SELECT {} FROM {} AS t JOIN {} ON {}) TO STDOUT").format(
            _listed([column.of_row for column in self._stored]),
            self._table,
            self._wanted.relation,
            self._wanted.same,
        )
        writing = sql.SQL("COPY {} ({}) FROM STDIN").format(
            self._plain, _listed([sql.Identifier(name) for name in self.columns])
        )
        with (
            reader.cursor() as source,
            writer.cursor() as target,
            source.copy(reading, parameters(keys)) as rows,
            target.copy(writing) as into,
        ):
            for block in rows:
                into.write(block)


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


def _listed(parts: Sequence[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(parts)
