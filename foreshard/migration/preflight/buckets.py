"""The buckets on both shards: what is described is there, nothing is in the way, nothing stands under the same name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from psycopg.conninfo import conninfo_to_dict

from foreshard.control.topology_store import ShardRecord
from foreshard.migration.preflight.findings import Finding
from foreshard.postgres import guard, preflight_queries
from foreshard.postgres.connect import Connection
from foreshard.postgres.names import MigrationNames


def described(
    conn: Connection, shard: str, buckets: Sequence[str], tables: Mapping[str, str]
) -> Iterator[Finding]:
    """The tables of each bucket are exactly those of the fleet's description."""
    present = preflight_queries.tables_present(conn, buckets)
    for bucket in buckets:
        there = present.get(bucket, set())
        for table in sorted(set(tables) - there):
            yield Finding(f"{bucket}.{table}", f"is not on {shard}", "Mend the fleet's description.")
        for table in sorted(there - set(tables)):
            yield Finding(
                f"{bucket}.{table}",
                "is not in the fleet's description",
                "Add it with its distribution column.",
            )


def in_the_way(
    target: Connection, shard: str, names: MigrationNames, buckets: Sequence[str]
) -> list[Finding]:
    """Schemas of the buckets' names on the target, unless they are this very migration's copy."""
    if guard.state(target, names) is not None:
        return []
    return [
        Finding(f"{bucket} on {shard}", "exists there already", "Drop or rename that schema.")
        for bucket in preflight_queries.schemas_present(target, buckets)
    ]


def remembered(
    conn: Connection, shard: str, names: MigrationNames, buckets: Sequence[str]
) -> Iterator[Finding]:
    """Rows of other migrations in Foreshard's own tables."""
    if not guard.installed(conn):
        return
    for bucket, migration in preflight_queries.moving_elsewhere(conn, names, buckets):
        yield Finding(
            f"{bucket} on {shard}",
            f"still belongs to {migration}",
            "`foreshard janitor` removes what a migration that has ended left behind.",
        )
    for migration in preflight_queries.strange_sides(conn):
        yield Finding(
            f"{migration} on {shard}",
            "began there on a server with another system identifier: this one was restored or cloned from that",
            f"Correct the DSN of {shard}; if it is right, run `SELECT foreshard.retire('{migration}')` there.",
        )


def shadow_role(conn: Connection, shard: ShardRecord, role: str | None) -> Iterator[Finding]:
    """The role that repeats reads on a copy that is closed to the application; None: the fleet has none."""
    if role is None:
        return
    application = str(conninfo_to_dict(shard.application_dsn).get("user") or "")
    there, may_log_in, may_read = preflight_queries.shadow_role(conn, role, application)
    subject = f"{shard.name}: shadow role {role}"
    remedy = f"Run what `foreshard grants --sql --shadow {role}` prints."
    if not there:
        yield Finding(subject, "is not there", remedy)
    elif not (may_log_in and may_read):
        lacking = f"is no member of {application}" if may_log_in else "may not log in"
        yield Finding(subject, f"{lacking}: no reads can be repeated", remedy, blocking=False)


def shadowed(
    conn: Connection, shard: ShardRecord, buckets: Sequence[str], tables: Mapping[str, str]
) -> Iterator[Finding]:
    """Tables that a statement meant for a bucket would reach, silently, when it is not there."""
    application = str(conninfo_to_dict(shard.application_dsn).get("user") or "")
    for schema, table in preflight_queries.shadowing(conn, application, buckets, list(tables)):
        yield Finding(
            f"{shard.name}: {schema}.{table}",
            f"has the name of a bucket's table and is in the search path of {application or 'the application'}: "
            "writes meant for the bucket would go there when it is gone",
            f"Rename it, or take {schema} out of the search path.",
        )
