"""The columns and the key of a table, and the digest queries that follow from them.

All of them are to be executed with parameters, be they none: a percent sign in a name is doubled.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from foreshard.postgres.connect import Connection, sql_file
from foreshard.postgres.last_word import Key
from foreshard.topology.keys import SLOT_SEED, SLOTS, KeyType, slot_sql


@dataclass(frozen=True)
class KeyColumn:
    """A column of the key; ``type_sql`` as PostgreSQL's ``format_type`` prints it."""

    name: str
    type_sql: str


@dataclass(frozen=True)
class TableShape:
    """Stored columns in order, the key that names a row (empty: none), table size in bytes."""

    bucket: str
    table: str
    columns: tuple[str, ...]
    key: tuple[KeyColumn, ...]
    bytes: int

    def name_row(self, key: Key) -> str:
        """A key's values for people: ``flight_id=12``."""
        return ", ".join(f"{column.name}={value}" for column, value in zip(self.key, key, strict=True))

    def chunks_query(self, chunks: int) -> sql.Composed:
        """Chunk, rows, digest of all chunks that have rows."""
        return sql_file("digests_chunks.sql").format(
            chunk=self._chunk(chunks), columns=self._columns(), table=self._table()
        )

    def rows_query(self, distribution_column: str, key_type: KeyType, chunks: int) -> sql.Composed:
        """Every row of the chunks in the parameter ``chunks``."""
        return sql_file("digests_rows.sql").format(
            key=self._key_as_text(),
            slot=_slot(distribution_column, key_type),
            columns=self._columns(),
            chunk=self._chunk(chunks),
            table=self._table(),
        )

    def keys_query(self, distribution_column: str, key_type: KeyType, chunks: int) -> sql.Composed:
        """The rows of some keys; takes one list of text values for each key column."""
        names = [sql.Identifier(f"k{number}") for number in range(len(self.key))]
        same_key = sql.SQL(" AND ").join(
            # The type's text comes from the server's own format_type, which quotes what needs it.
            sql.SQL("{} = {}::{}").format(_of_row(column.name), name, sql.SQL(_doubled(column.type_sql)))
            for column, name in zip(self.key, names, strict=True)
        )
        return sql_file("digests_keys.sql").format(
            key=self._key_as_text(),
            slot=_slot(distribution_column, key_type),
            columns=self._columns(),
            chunk=self._chunk(chunks),
            table=self._table(),
            wanted=sql.SQL(", ").join([sql.SQL("%s::text[]")] * len(self.key)),
            wanted_names=sql.SQL(", ").join(names),
            same_key=same_key,
        )

    def _table(self) -> sql.Identifier:
        return sql.Identifier(_doubled(self.bucket), _doubled(self.table))

    def _columns(self) -> sql.Composed:
        return sql.SQL(", ").join(_of_row(name) for name in self.columns)

    def _key_as_text(self) -> sql.Composed:
        return sql.SQL(", ").join(sql.SQL("{}::text").format(_of_row(column.name)) for column in self.key)

    def _chunk(self, chunks: int) -> sql.Composed:
        """A hash of the key as text, so that a row falls into the same chunk on both servers."""
        key = sql.SQL(", ").join(_of_row(column.name) for column in self.key)
        return sql.SQL(
            'mod(hashtextextended(ROW({key})::text COLLATE "C", 1) & 9223372036854775807, {chunks})::int'
        ).format(key=key, chunks=sql.Literal(chunks))


def _of_row(column: str) -> sql.Identifier:
    return sql.Identifier("t", _doubled(column))


def _doubled(name: str) -> str:
    return name.replace("%", "%%")


def _slot(distribution_column: str, key_type: KeyType) -> sql.Composed:
    # A row without a key belongs to nobody; preflight refuses such tables. Here the source answers for it.
    return sql.SQL("COALESCE({hash}({column}, {seed}) & {mask}, {slots})::int").format(
        hash=sql.Identifier("pg_catalog", slot_sql(key_type)),
        column=_of_row(distribution_column),
        seed=sql.Literal(SLOT_SEED),
        mask=sql.Literal(SLOTS - 1),
        slots=sql.Literal(SLOTS),
    )


def read_shape(session: Connection, bucket: str, table: str) -> TableShape | None:
    """The shape of a table (of a partitioned one: its root), or None where there is none of that name."""
    row = session.execute(sql_file("digests_shape.sql"), {"bucket": bucket, "table": table}).fetchone()
    if row is None:
        return None
    size, columns, names, types = row
    key = tuple(KeyColumn(name, type_sql) for name, type_sql in zip(names or (), types or (), strict=True))
    return TableShape(bucket, table, tuple(columns), key, size)
