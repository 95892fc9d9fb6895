"""What preflight, and the stages that make and remove copies, ask a shard about buckets."""

from __future__ import annotations

from collections.abc import Sequence

from foreshard.postgres.connect import Connection, sql_file
from foreshard.postgres.names import MigrationNames


def tables_present(conn: Connection, buckets: Sequence[str]) -> dict[str, set[str]]:
    """Tables of each bucket; a partitioned one stands for its partitions."""
    found: dict[str, set[str]] = {}
    rows = conn.execute(
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = ANY (%s) AND c.relkind IN ('r', 'p') AND NOT c.relispartition",
        (list(buckets),),
    )
    for bucket, table in rows:
        found.setdefault(bucket, set()).add(table)
    return found


def schemas_present(conn: Connection, buckets: Sequence[str]) -> list[str]:
    """Which of the buckets' schemas exist on this shard."""
    rows = conn.execute(
        "SELECT nspname FROM pg_namespace WHERE nspname = ANY (%s) ORDER BY 1", (list(buckets),)
    )
    return [name for (name,) in rows]


def moving_elsewhere(
    conn: Connection, names: MigrationNames, buckets: Sequence[str]
) -> list[tuple[str, str]]:
    """(bucket, migration) of the buckets that another migration has rows of on this shard."""
    rows = conn.execute(
        "SELECT bucket, migration FROM foreshard.moving WHERE bucket = ANY (%s) AND migration <> %s ORDER BY 1",
        (list(buckets), names.schema),
    )
    return [(bucket, migration) for bucket, migration in rows]


def strange_sides(conn: Connection) -> list[str]:
    """Migrations of which this shard says that it was another server (system identifier) when they began."""
    rows = conn.execute(
        "SELECT migration FROM foreshard.sides, pg_control_system() WHERE system_id <> system_identifier ORDER BY 1"
    )
    return [migration for (migration,) in rows]


def shadowing(
    conn: Connection, application: str, buckets: Sequence[str], tables: Sequence[str]
) -> list[tuple[str, str]]:
    """(schema, table) that the search path of role ``application`` reaches under the name of a bucket's table."""
    rows = conn.execute(
        sql_file("shadowing.sql"),
        {"application": application, "buckets": list(buckets), "tables": list(tables)},
    )
    return [(schema, table) for schema, table in rows]


def shadow_role(conn: Connection, role: str, application: str) -> tuple[bool, bool, bool]:
    """Whether ``role`` is there, may log in, and may read what ``application`` reads."""
    found = conn.execute(sql_file("shadow_role.sql"), {"role": role, "application": application}).fetchone()
    assert found is not None
    return bool(found[0]), bool(found[1]), bool(found[2])


def secondary_objects(conn: Connection, buckets: Sequence[str]) -> set[str]:
    """Names of what is created after the data: indexes that back no constraint, foreign keys, user triggers."""
    rows = conn.execute(sql_file("secondary_objects.sql"), {"buckets": list(buckets)})
    return {name for (name,) in rows}


def total_bytes(conn: Connection, buckets: Sequence[str]) -> int:
    """Size of the buckets with indexes and TOAST."""
    row = conn.execute(
        "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint"
        "  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = ANY (%s) AND c.relkind = 'r'",
        (list(buckets),),
    ).fetchone()
    return 0 if row is None else int(row[0])
