"""Ownership on one shard: install, arm, close, open, cancel, drop. The SQL is in sql/{shard,flip,side,guard}.sql."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from psycopg import errors, sql

from foreshard.errors import ForeshardError, InvalidInput, NotFound
from foreshard.postgres.connect import Connection, sql_file
from foreshard.postgres.names import (
    COPY_TRIGGER,
    FENCE_CLASS,
    GUARD_TRIGGER,
    TRUNCATE_TRIGGER,
    MigrationNames,
)
from foreshard.topology.keys import SLOT_SEED, KeyType, slot_sql

STALE_FLIP = "FS004"
"""SQLSTATE of a flip number that this side has passed or cancelled."""

OTHER_TIMELINE = "FS005"
"""SQLSTATE of every write to a moving bucket on a server that was failed over and has not been closed again."""

LONGEST_FENCE_WAIT_MS = 400
"""Below half of PostgreSQL's deadlock_timeout: a waiting close must not make writers wait for the deadlock check."""

RETIRE_PATIENCE_S = 5.0
"""Longer statements are reports: one that asserts an owner takes milliseconds."""

_STILL_RUNNING = """
SELECT 1 FROM pg_stat_activity
 WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
   AND state = 'active' AND query_start < %s LIMIT 1
"""


class Side(StrEnum):
    """Which end of the migration a shard is."""

    SOURCE = "source"
    TARGET = "target"

    @property
    def other(self) -> Side:
        """The other end."""
        return Side.TARGET if self is Side.SOURCE else Side.SOURCE


@dataclass(frozen=True)
class SideState:
    """What one shard says of a migration: its bound and the flips it has seen.

    ``same_system``, ``same_timeline``: whether this is the server on which that was written. After a failover its
    bound counts for nothing until `adopt_timeline`.
    """

    bound: int
    flip_no: int
    opened_flip: int
    same_system: bool = True
    same_timeline: bool = True
    timeline: str = field(default="", compare=False)
    """The server's timeline now."""


def install(conn: Connection) -> None:
    """Install or renew the permanent part (schema ``foreshard``) as the connected operator role."""
    seed = sql.Literal(SLOT_SEED)
    with conn.transaction():
        # Several runners may start at once; CREATE OR REPLACE of one function by two fails for one of them.
        conn.execute("SELECT pg_advisory_xact_lock(%s, 0)", (FENCE_CLASS,))
        conn.execute(sql_file("shard.sql").format(seed=seed))
        conn.execute(sql_file("flip.sql"))
        conn.execute(sql_file("shadow.sql"))


def create_side(
    conn: Connection, names: MigrationNames, side: Side, peer: str, buckets: Sequence[str]
) -> None:
    """Create bound, marker and the rows that say which buckets move. Bound 0: the source owns all. Idempotent."""
    schema = sql.Identifier(names.schema)
    with conn.transaction():
        conn.execute(sql_file("side.sql").format(migration=schema))
        oid = _one(conn, "SELECT %s::regclass::oid::bigint", f"{names.schema}.bound")
        conn.execute(
            "INSERT INTO foreshard.sides (migration, migration_no, side, peer, bound_sequence, system_id, timeline)"
            " SELECT %s, %s, %s, %s, %s, system_identifier, foreshard.timeline() FROM pg_control_system()"
            " ON CONFLICT DO NOTHING",
            (names.schema, names.number, side, peer, oid),
        )
        # is_called must be true, or pg_sequence_last_value is NULL and every write is refused.
        conn.execute("SELECT setval(%s, 0) WHERE pg_sequence_last_value(%s) IS NULL", (oid, oid))
        for bucket in buckets:
            conn.execute(
                "INSERT INTO foreshard.moving (bucket, migration) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                (bucket, names.schema),
            )
        other = _one(
            conn,
            "SELECT string_agg(format('%%s moves in %%s', bucket, migration), ', ') FROM foreshard.moving"
            " WHERE bucket = ANY (%s) AND migration <> %s",
            list(buckets),
            names.schema,
        )
        if other is not None:
            # Its guard would ask the other migration's bound, and let fenced writes through.
            raise ForeshardError(
                f"Another migration has rows on this shard: {other}.",
                remedy="End that one, or run foreshard.retire there if it has ended.",
            )


def create_guards(conn: Connection, names: MigrationNames, columns: Iterable[str], key_type: KeyType) -> None:
    """The guards' functions, one for each name of a distribution column. Idempotent."""
    for column in sorted(set(columns)):
        if "$$" in column:  # it would end the function's body
            raise InvalidInput("tables", f"the distribution column {column!r} holds $$.", remedy="Rename it.")
        conn.execute(
            sql_file("guard.sql").format(
                migration=sql.Identifier(names.schema),
                guard=sql.Identifier(guard_function(column, key_type)),
                **{
                    f"{row.lower()}_hash": sql.SQL(slot_sql(key_type)).format(
                        key=sql.SQL(f"{row}.") + sql.Identifier(column), seed=sql.Literal(SLOT_SEED)
                    )
                    for row in ("OLD", "NEW")
                },
            )
        )


def arm(
    conn: Connection, names: MigrationNames, table: sql.Identifier, column: str, key_type: KeyType
) -> None:
    """Put the guard and the TRUNCATE refusal onto one table and its partitions, after `create_guards`. Idempotent.

    In place of the copy guard, where one stands. It waits for the table's writers, so set a lock_timeout. PostgreSQL
    clones the row trigger to all partitions, to those that come later too; a statement trigger it does not, and a
    partition can be truncated by its own name.
    """
    guard = sql.Identifier(names.schema, guard_function(column, key_type))
    refusal = sql.Identifier(names.schema, "refuse_truncate")
    members = _with_partitions(conn, table)
    statements = [
        sql.SQL(
            "CREATE OR REPLACE TRIGGER {} BEFORE INSERT OR UPDATE OR DELETE ON {} FOR EACH ROW EXECUTE FUNCTION {}()"
        ).format(sql.Identifier(GUARD_TRIGGER), table, guard)
    ] + [
        sql.SQL(
            "CREATE OR REPLACE TRIGGER {} BEFORE TRUNCATE ON {} FOR EACH STATEMENT EXECUTE FUNCTION {}()"
        ).format(sql.Identifier(TRUNCATE_TRIGGER), member, refusal)
        for member in members
    ]
    statements += [
        sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(sql.Identifier(COPY_TRIGGER), member)
        for member in members
    ]
    conn.execute(sql.SQL("; ").join(statements))  # one message, and so one transaction


def arm_for_copy(conn: Connection, names: MigrationNames, table: sql.Identifier) -> None:
    """Put the copy guard onto one table and its partitions, before anything is copied into it. Idempotent."""
    refusal = sql.Identifier(names.schema, "refuse_write")
    statements = [
        sql.SQL(
            "CREATE OR REPLACE TRIGGER {} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {}"
            " FOR EACH STATEMENT EXECUTE FUNCTION {}()"
        ).format(sql.Identifier(COPY_TRIGGER), member, refusal)
        for member in _with_partitions(conn, table)
    ]
    conn.execute(sql.SQL("; ").join(statements))


def armed(conn: Connection, buckets: Sequence[str]) -> set[tuple[str, str]]:
    """(schema, table) of the buckets' tables on which the row guard stands."""
    rows = conn.execute(
        "SELECT n.nspname, c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
        "  JOIN pg_namespace n ON n.oid = c.relnamespace WHERE t.tgname = %s AND n.nspname = ANY (%s)",
        (GUARD_TRIGGER, list(buckets)),
    )
    return {(schema, table) for schema, table in rows}


def create_copy_guard(conn: Connection, names: MigrationNames) -> None:
    """The copy guard's function. Idempotent."""
    conn.execute(
        sql_file("copy_guard.sql").format(
            migration=sql.Identifier(names.schema), schema_name=sql.Literal(names.schema)
        )
    )


def guard_function(column: str, key_type: KeyType) -> str:
    """Name of the guard for distribution columns of this name and type (within 63 bytes for any column name)."""
    return f"guard_{key_type.value}_{hashlib.sha256(column.encode()).hexdigest()[:8]}"


def close(
    conn: Connection, names: MigrationNames, flip_no: int, bound: int, marker: UUID, *, opens: bool = False
) -> None:
    """Give up ownership on this side. ``conn`` should have a lock_timeout far below deadlock_timeout.

    ``opens``: the other side opens by itself when it applies the marker. Only where no standby must be waited for.
    """
    arguments = (names.schema, flip_no, bound, marker, opens)
    conn.execute("SELECT foreshard.close(%s, %s, %s, %s, %s)", arguments)


def wait_for_fence(conn: Connection, base_ms: int, attempt: int) -> None:
    """Set how long this session waits for the fence in its ``attempt`` (1, 2, ...).

    Writers queue behind a waiting close, so the first attempts are short. Where every transaction takes longer than
    that none of them would ever succeed: the wait doubles with every second one, up to `LONGEST_FENCE_WAIT_MS`.
    """
    wait_ms = min(base_ms * 2 ** ((attempt - 1) // 2), max(base_ms, LONGEST_FENCE_WAIT_MS))
    conn.execute(f"SET lock_timeout = {wait_ms}".encode())


def rehearse_close(conn: Connection, names: MigrationNames) -> bool:
    """Do all that a close does and undo it, so that the real one finds everything warm; False if the fence was busy."""
    try:
        conn.execute("SELECT foreshard.rehearse_close(%s)", (names.schema,))
    except errors.LockNotAvailable:
        return False
    return True


def open_(conn: Connection, names: MigrationNames, flip_no: int, bound: int) -> None:
    """Take ownership on this side; only after the closing side's marker was applied here."""
    conn.execute("SELECT foreshard.open(%s, %s, %s)", (names.schema, flip_no, bound))


def cancel(conn: Connection, names: MigrationNames, flip_no: int) -> bool:
    """Forbid this side to open the flip. False if it has opened already: then the flip must go on."""
    return bool(_one(conn, "SELECT foreshard.cancel(%s, %s)", names.schema, flip_no))


def adopt_timeline(conn: Connection, names: MigrationNames, other_bound: int, seen: str) -> int:
    """Close again on a server that was failed over, and let its bound count; returns the bound.

    First `cancel` the newest flip on the other side and read its bound then. ``seen``: this server's timeline when it
    was found to be another one. Waits for writers that hold the fence. Refused (FS005) on yet another server.
    """
    bound = _one(conn, "SELECT foreshard.adopt_timeline(%s, %s, %s)", names.schema, other_bound, seen)
    if not isinstance(bound, int):
        raise NotFound(f"{names.schema} is not on this shard.")
    return bound


def state(conn: Connection, names: MigrationNames) -> SideState | None:
    """This side's bound and flips, or None if the migration has nothing (left) on this shard."""
    if not installed(conn):
        return None
    row = conn.execute(
        "SELECT (pg_sequence_last_value(bound_sequence::regclass) %% 2048)::int, flip_no,"
        "       pg_sequence_last_value(bound_sequence::regclass) / 2048,"
        "       system_id = (SELECT system_identifier FROM pg_control_system()), timeline = foreshard.timeline(),"
        "       foreshard.timeline()"
        "  FROM foreshard.sides WHERE migration = %s",
        (names.schema,),
    ).fetchone()
    return None if row is None else SideState(*row)


def installed(conn: Connection) -> bool:
    """Whether the permanent part stands on this shard."""
    return bool(_one(conn, "SELECT to_regclass('foreshard.moving') IS NOT NULL"))


def drop_copy(conn: Connection, names: MigrationNames, expected_bound: int) -> int:
    """Drop this side's schemas of the migration's buckets; refused (FS004) while it owns any key."""
    dropped = _one(conn, "SELECT foreshard.drop_copy(%s, %s)", names.schema, expected_bound)
    if not isinstance(dropped, int):
        raise NotFound(f"{names.schema} is not on this shard.")
    return dropped


def retire(conn: Connection, names: MigrationNames) -> None:
    """Remove everything of the migration from this shard but the data. Idempotent.

    In two steps: a statement that looked the migration up before it ended may still be waiting for the fence lock,
    and reads the bound as soon as it has it. So the bound goes last, when no such statement is left.
    """
    if installed(conn):
        conn.execute("SELECT foreshard.retire(%s)", (names.schema,))
    retired_at = _one(conn, "SELECT clock_timestamp()")
    patience = time.monotonic() + RETIRE_PATIENCE_S
    while _one(conn, _STILL_RUNNING, retired_at) and time.monotonic() < patience:
        time.sleep(0.02)
    conn.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(names.schema)))


def fence_holders(
    conn: Connection, names: MigrationNames, older_than_ms: float
) -> list[tuple[int | None, float]]:
    """Transactions that hold the fence lock: (pid, age in ms); pid None is a prepared transaction."""
    rows = conn.execute(
        "SELECT l.pid, extract(epoch FROM clock_timestamp() - a.xact_start) * 1000 AS age_ms"
        "  FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)"
        " WHERE l.locktype = 'advisory' AND l.classid = %s AND l.objid = %s AND l.granted"
        "   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        "   AND (a.xact_start IS NULL OR clock_timestamp() - a.xact_start > %s * interval '1 ms')"
        " ORDER BY age_ms DESC NULLS FIRST",
        (FENCE_CLASS, names.number, older_than_ms),
    ).fetchall()
    return [(pid, float(age) if age is not None else float("inf")) for pid, age in rows]


def tables_of(buckets: Sequence[str], tables: Mapping[str, str]) -> list[tuple[sql.Identifier, str]]:
    """Every table of the buckets with its distribution column."""
    return [(sql.Identifier(bucket, table), column) for bucket in buckets for table, column in tables.items()]


def _with_partitions(conn: Connection, table: sql.Identifier) -> list[sql.Identifier]:
    partitions = conn.execute(sql_file("partitions.sql"), {"table": table.as_string(conn)}).fetchall()
    return [table, *(sql.Identifier(*name) for name in partitions)]


def _one(conn: Connection, query: str, *parameters: object) -> object:
    row = conn.execute(query.encode(), parameters).fetchone()
    return None if row is None else row[0]
