"""A fleet's own table key -> bucket, as an inspection and a router read it."""

from __future__ import annotations

from collections.abc import Collection

from psycopg import sql

from foreshard.postgres.connect import Connection
from foreshard.topology.bucketing import Bucketing
from foreshard.topology.keys import Key, KeyType


def keys_by_bucket(conn: Connection, bucketing: Bucketing) -> dict[str, int]:
    """How many keys the directory has in each bucket; '' for those without one."""
    rows = conn.execute(
        sql.SQL("SELECT coalesce({bucket}::text, ''), count(*) FROM {table} GROUP BY 1").format(
            **_names(conn, bucketing)
        )
    )
    return dict(rows)


def buckets_of(
    conn: Connection, bucketing: Bucketing, keys: Collection[Key], key_type: KeyType
) -> dict[Key, str]:
    """The bucket of each of these keys that the directory knows."""
    rows = conn.execute(
        sql.SQL("SELECT {key}::{type}, {bucket}::text FROM {table} WHERE {key} = ANY (%s::{type}[])").format(
            **_names(conn, bucketing), type=sql.Identifier("pg_catalog", key_type.value)
        ),
        (list(keys),),
    )
    return {key: bucket for key, bucket in rows if bucket is not None}


def lookup(conn: Connection, bucketing: Bucketing) -> sql.Composed:
    """The query of one key's bucket, to be used again and again."""
    return sql.SQL("SELECT {bucket} FROM {table} WHERE {key} = %s").format(**_names(conn, bucketing))


def _names(conn: Connection, bucketing: Bucketing) -> dict[str, sql.Identifier]:
    """The server splits the table's name, as it is written in SQL."""
    row = conn.execute("SELECT parse_ident(%s)", (bucketing.table,)).fetchone()
    assert row is not None  # a SELECT without FROM has one row
    return {
        "table": sql.Identifier(*row[0]),
        "key": sql.Identifier(bucketing.key_column or ""),
        "bucket": sql.Identifier(bucketing.bucket_column or ""),
    }
