"""What one side of a migration publishes to the other.

Both directions publish insert, update and delete only: a TRUNCATE must never travel (emptying one copy would empty the
other). A partitioned table is published as its root: one relation to copy, to watch and to compare, and the other side
may route a row as it likes.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from foreshard.postgres.connect import Connection
from foreshard.postgres.names import MigrationNames


def create(conn: Connection, names: MigrationNames) -> None:
    """A publication of the marker alone; tables are added by `add`."""
    there = conn.execute("SELECT FROM pg_publication WHERE pubname = %s", (names.publication,))
    if there.fetchone() is None:
        conn.execute(
            sql.SQL(
                "CREATE PUBLICATION {} FOR TABLE {}"
                " WITH (publish = 'insert, update, delete', publish_via_partition_root = true)"
            ).format(sql.Identifier(names.publication), sql.Identifier(names.schema, "marker"))
        )


def published(conn: Connection, names: MigrationNames) -> set[tuple[str, str]]:
    """(schema, table) of everything in the publication, the marker included."""
    rows = conn.execute(
        "SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = %s", (names.publication,)
    )
    return {(schema, table) for schema, table in rows}


def add(conn: Connection, names: MigrationNames, tables: Sequence[tuple[str, str]]) -> None:
    """Add those tables to the publication that are not in it yet."""
    there = published(conn, names)
    missing = [table for table in tables if table not in there]
    if missing:
        conn.execute(
            sql.SQL("ALTER PUBLICATION {} ADD TABLE {}").format(
                sql.Identifier(names.publication), sql.SQL(", ").join(sql.Identifier(*t) for t in missing)
            )
        )


def drop(conn: Connection, names: MigrationNames) -> None:
    """Drop the publication. Idempotent."""
    conn.execute(sql.SQL("DROP PUBLICATION IF EXISTS {}").format(sql.Identifier(names.publication)))
