"""What stands on a server because a migration made it: for the proof that nothing is left, and for the janitor."""

from __future__ import annotations

from foreshard.postgres.connect import Connection, sql_file
from foreshard.postgres.names import MigrationNames


def of_migration(conn: Connection, names: MigrationNames) -> list[str]:
    """Slots, publications, subscriptions, schemas and triggers of the migration on this server."""
    rows = conn.execute(sql_file("leftovers.sql"), {"name": names.schema})
    return [f"{kind} {name}" for kind, name in rows]


def of_plane(conn: Connection, plane: str) -> list[tuple[int, str, str]]:
    """(migration, kind, name) of everything on this server that a migration of control plane ``plane`` made.

    Rows in Foreshard's own tables are kinds ``side`` and ``moving``. Another plane's things are not in the list.
    """
    found = conn.execute(sql_file("plane_objects.sql"), {"plane": plane}).fetchall()
    moving = conn.execute("SELECT to_regclass('foreshard.moving') IS NOT NULL").fetchone()
    if moving == (True,):
        found += conn.execute(sql_file("plane_rows.sql"), {"plane": plane}).fetchall()
    return sorted((int(number), str(kind), str(name)) for number, kind, name in found)
