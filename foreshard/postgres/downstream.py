"""Who else reads or changes the tables of buckets: publications, slots, event triggers, schedulers, pg_partman."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from foreshard.postgres.connect import Connection, sql_file


@dataclass(frozen=True)
class Neighbour:
    """One of them. ``kind``: publication, slot, event trigger, scheduler or partition manager."""

    kind: str
    name: str
    detail: str


def neighbours(conn: Connection, buckets: Sequence[str]) -> list[Neighbour]:
    """All on this shard, apart from Foreshard's own."""
    rows = conn.execute(sql_file("downstream.sql"), {"buckets": list(buckets)})
    return [*(Neighbour(*row) for row in rows), *_partition_managers(conn, buckets)]


def _partition_managers(conn: Connection, buckets: Sequence[str]) -> list[Neighbour]:
    """Tables of the buckets that a pg_partman looks after. Its schema is whichever the administrator chose."""
    configs = conn.execute(
        "SELECT n.nspname, has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE')"
        "  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        "  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'parent_table'"
        " WHERE c.relname = 'part_config' AND c.relkind = 'r'"
    ).fetchall()
    found = []
    for schema, readable in configs:
        if not readable:
            found.append(Neighbour("partition manager", f"{schema}.part_config", "which we may not read"))
            continue
        managed = conn.execute(
            sql.SQL(
                "SELECT parent_table FROM {} WHERE split_part(parent_table, '.', 1) = ANY (%s) ORDER BY 1"
            ).format(sql.Identifier(schema, "part_config")),
            (list(buckets),),
        )
        found += [Neighbour("partition manager", f"{schema}.part_config", str(table)) for (table,) in managed]
    return found
