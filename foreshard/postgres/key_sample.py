"""Some keys of many tables, to see whether they are where they should be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psycopg import sql

from foreshard.postgres.connect import Connection
from foreshard.topology.keys import Key, KeyType, KeyTypes, parts_of

ROWS = 8
"""Rows looked at per table. A fleet that places its keys another way than described shows it with the first ones."""

_TABLES_PER_QUERY = 200

TableName = tuple[str, str]
"""Bucket and table."""


def sample_keys(
    conn: Connection, columns: Mapping[TableName, tuple[str, ...]], key_types: KeyTypes
) -> dict[TableName, list[Key]]:
    """The different keys of each table's first rows. ``columns``: those of the key, of types that fit."""
    names = list(columns)
    found: dict[TableName, list[Key]] = {}
    for start in range(0, len(names), _TABLES_PER_QUERY):
        part = names[start : start + _TABLES_PER_QUERY]
        for number, *parts in conn.execute(_query(part, columns, parts_of(key_types))):
            keys = found.setdefault(part[number], [])
            key: Key = parts[0] if len(parts) == 1 else tuple(parts)
            if None not in parts and key not in keys:
                keys.append(key)
    return found


def _query(
    names: Sequence[TableName], columns: Mapping[TableName, tuple[str, ...]], key_types: Sequence[KeyType]
) -> sql.Composed:
    one = sql.SQL("(SELECT {number}, {key} FROM {table} LIMIT {rows})")
    return sql.SQL(" UNION ALL ").join(
        one.format(
            number=number,
            key=sql.SQL(", ").join(
                sql.SQL("{}::pg_catalog.{}").format(sql.Identifier(column), sql.Identifier(key_type.value))
                for column, key_type in zip(columns[name], key_types, strict=True)
            ),
            table=sql.Identifier(*name),
            rows=ROWS,
        )
        for number, name in enumerate(names)
    )
