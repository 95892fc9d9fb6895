"""What preflight asks a shard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from foreshard.postgres.connect import Connection, sql_file
from foreshard.postgres.names import MigrationNames
from foreshard.postgres.replication import QUIET
from foreshard.topology.keys import KeyType


@dataclass(frozen=True)
class ServerSettings:
    """What a server allows. ``version`` as in server_version_num; ``may_keep_quiet``: to keep a statement unlogged,
    ``may_monitor``: to see other roles' statements and the server's settings.
    """

    version: int
    wal_level: str
    free_slots: int
    free_senders: int
    may_subscribe: bool
    may_keep_quiet: bool
    may_monitor: bool
    prepared: tuple[str, ...]


def server_settings(conn: Connection) -> ServerSettings:
    """Version, room for replication, and prepared transactions (they would hold the fence)."""
    row = conn.execute(
        "SELECT current_setting('server_version_num')::int, current_setting('wal_level'),"
        "       current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots)::int,"
        "       current_setting('max_wal_senders')::int"
        "         - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender')::int,"
        "       pg_has_role('pg_create_subscription', 'MEMBER'),"
        "       (SELECT bool_and(has_parameter_privilege(name, 'SET')) FROM unnest(%s::text[]) AS quiet (name)),"
        "       pg_has_role('pg_read_all_stats', 'USAGE') AND pg_has_role('pg_read_all_settings', 'USAGE'),"
        "       ARRAY(SELECT gid::text FROM pg_prepared_xacts WHERE database = current_database())",
        (list(QUIET),),
    ).fetchone()
    assert row is not None  # a SELECT without FROM has one row
    version, wal_level, slots, senders, may_subscribe, may_keep_quiet, may_monitor, prepared = row
    return ServerSettings(
        version, wal_level, slots, senders, may_subscribe, may_keep_quiet, may_monitor, tuple(prepared)
    )


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


def pair_hazards(
    ends: Mapping[str, Connection], names: MigrationNames, buckets: Sequence[str], key_type: KeyType
) -> list[tuple[str, str, str]]:
    """(subject, why, remedy) of what is wrong between the two shards. ``ends``: both by their names."""
    found = []
    encodings = {shard: _encoding(conn) for shard, conn in ends.items()}
    if len(set(encodings.values())) > 1:
        both = " and ".join(f"{encoding} on {shard}" for shard, encoding in encodings.items())
        found.append(("encoding", f"is {both}", "Both databases need the same encoding."))
    elif key_type is KeyType.TEXT and set(encodings.values()) != {"UTF8"}:
        found.append(("encoding", "is not UTF8", "Routers hash text keys as UTF-8: convert the databases."))
    for shard, conn in ends.items():
        if conn.execute("SELECT to_regclass('foreshard.moving') IS NOT NULL").fetchone() == (True,):
            rows = conn.execute(
                "SELECT bucket, migration FROM foreshard.moving WHERE bucket = ANY (%s) AND migration <> %s"
                " ORDER BY 1",
                (list(buckets), names.schema),
            )
            found += [
                (
                    f"{bucket} on {shard}",
                    f"still belongs to {migration}",
                    "`foreshard janitor` removes what a migration that has ended left behind.",
                )
                for bucket, migration in rows
            ]
    return found


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


def _encoding(conn: Connection) -> str:
    row = conn.execute(
        "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()"
    ).fetchone()
    assert row is not None  # our own database
    return str(row[0])
