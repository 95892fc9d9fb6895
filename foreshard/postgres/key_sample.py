"""Some keys of many tables, to see whether they are where they should be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psycopg import sql

from foreshard.postgres.connect import Connection
from foreshard.topology.keys import Key, KeyType

ROWS = 8
"""Rows looked at per table. A fleet that places its keys another way than described shows it with the first ones."""

_TABLES_PER_QUERY = 200

TableName = tuple[str, str]
"""Bucket and table."""


def sample_keys(
    conn: Connection, columns: Mapping[TableName, str], key_type: KeyType
) -> dict[TableName, list[Key]]:
    """The different keys of each table's first rows. ``columns``: the distribution column, of a type that fits."""
    names = list(columns)
    found: dict[TableName, list[Key]] = {}
    for start in range(0, len(names), _TABLES_PER_QUERY):
        part = names[start : start + _TABLES_PER_QUERY]
        for number, key in conn.execute(_query(part, columns, key_type)):
            keys = found.setdefault(part[number], [])
            if key is not None and key not in keys:
                keys.append(key)
    return found


def _query(names: Sequence[TableName], columns: Mapping[TableName, str], key_type: KeyType) -> sql.Composed:
    one = sql.SQL("(SELECT {number}, {column}::pg_catalog.{type} FROM {table} LIMIT {rows})")
    return sql.SQL(" UNION ALL ").join(
        one.format(
            number=number,
            column=sql.Identifier(columns[name]),
            type=sql.Identifier(key_type.value),
            table=sql.Identifier(*name),
            rows=ROWS,
        )
        for number, name in enumerate(names)
    )
