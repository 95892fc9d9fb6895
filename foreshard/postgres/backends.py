"""Sessions of our own on a server that must not go on: of runners that were replaced, and of comparisons."""

from __future__ import annotations

from collections.abc import Sequence

from foreshard.postgres.connect import Connection
from foreshard.postgres.names import COMPARING, MigrationNames


def end_replaced(conn: Connection, application: str, before: int) -> int:
    """End sessions of runners that lost their lease, and what their dead clients left behind; returns how many.

    Sessions are called ``<application> lease <token>``; those with a token below ``before`` are ended. A backend
    does not notice that its client is gone while it waits for a lock or builds an index.
    """
    rows = conn.execute(
        "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity"
        " WHERE usename = current_user AND pid <> pg_backend_pid()"
        "   AND substring(application_name FROM %s)::bigint < %s",
        (f"^{application} lease ([0-9]+)$", before),
    )
    return len(rows.fetchall())


def end_comparisons(conn: Connection, names: MigrationNames, buckets: Sequence[str]) -> int:
    """End sessions that compare these buckets beside their migration, or mend them; returns how many.

    A copy cannot be dropped while one reads it, and a large table takes minutes.
    """
    rows = conn.execute(
        "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity AS a"
        " WHERE usename = current_user AND pid <> pg_backend_pid()"
        "   AND (application_name = %s OR application_name = %s"
        "   AND EXISTS (SELECT FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation"
        "                 JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        "                WHERE l.pid = a.pid AND n.nspname = ANY (%s)"
        "                  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())))",
        (names.repair_origin, COMPARING, list(buckets)),
    )
    return len(rows.fetchall())
