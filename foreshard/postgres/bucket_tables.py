"""Which buckets and tables stand on a shard, described or not, in as few queries as a thousand buckets allow."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from foreshard.postgres import guard
from foreshard.postgres.connect import Connection, sql_file


@dataclass(frozen=True)
class Column:
    """A column; ``type`` is PostgreSQL's short name (``int8``), that of the base type for a domain."""

    name: str
    type: str
    not_null: bool
    generated: bool


@dataclass(frozen=True)
class Table:
    """A table of a bucket, or the root of a partitioned one with its partitions counted in.

    ``rows`` is the server's estimate. ``partition_of``: the root, for a partition whose root is in another schema.
    """

    bucket: str
    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    rows: int
    bytes: int
    readable: bool
    partitions: tuple[str, ...] = ()
    partition_of: str | None = None

    def column(self, name: str) -> Column | None:
        """Its column of that name."""
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True)
class ApplicationRights:
    """What the application's role may do where its DSN leads. ``database``: as `database_identity`.

    ``lacking`` described tables it cannot both read and write, such as ``example``. ``sees_foreshard``: it may use
    schema ``foreshard``, where guards call their functions; None if there is no such schema.
    """

    database: tuple[int, int]
    role: str
    lacking: int
    example: str | None
    sees_foreshard: bool | None


def buckets(conn: Connection, pattern: str | None, names: Sequence[str]) -> dict[str, bool]:
    """Schemas whose name is LIKE ``pattern`` or one of ``names``, by name: whether this role may use them.

    Those of PostgreSQL and of Foreshard are no buckets.
    """
    rows = conn.execute(sql_file("bucket_schemas.sql"), {"pattern": pattern, "names": list(names)})
    return dict(rows)


def tables(conn: Connection, usable: Mapping[str, bool]) -> list[Table]:
    """All tables of these buckets (see `buckets`), by name."""
    shapes: dict[str | None, tuple[Column, ...]] = {}  # a thousand buckets have few shapes
    found = []
    for bucket, name, rows, size, readable, key, columns, root, partitions in conn.execute(
        sql_file("bucket_tables.sql"), {"buckets": list(usable)}
    ):
        if columns not in shapes:
            shapes[columns] = tuple(Column(*one) for one in json.loads(columns or "[]"))
        found.append(
            Table(
                bucket,
                name,
                shapes[columns],
                tuple(key),
                rows,
                size,
                readable and usable[bucket],
                tuple(partitions),
                root,
            )
        )
    return found


def database_identity(conn: Connection) -> tuple[int, int]:
    """Tells this database from every other one, however it is reached: its cluster's identifier, and its own."""
    row = conn.execute(
        "SELECT (SELECT system_identifier FROM pg_control_system()),"
        "       (SELECT oid::bigint FROM pg_database WHERE datname = current_database())"
    ).fetchone()
    assert row is not None  # a SELECT without FROM has one row
    return int(row[0]), int(row[1])


def application_rights(conn: Connection, buckets: Sequence[str], tables: Sequence[str]) -> ApplicationRights:
    """What the role of this connection may do with these tables."""
    row = conn.execute(
        sql_file("application_rights.sql"), {"buckets": list(buckets), "tables": list(tables)}
    ).fetchone()
    assert row is not None
    role, lacking, example, sees_foreshard = row
    return ApplicationRights(database_identity(conn), role, lacking, example, sees_foreshard)


def moving(conn: Connection) -> dict[str, str]:
    """Buckets in a migration, as this shard says: the migration's schema by bucket."""
    if not guard.installed(conn):
        return {}
    return dict(conn.execute("SELECT bucket, migration FROM foreshard.moving"))
