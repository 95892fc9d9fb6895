"""The snapshot that a migration's rows are copied in: exactly what is older than its replication slot.

The slot's creation exports it (a snapshot taken a moment later would overlap the stream, or lose rows). It lives as
long as the session that holds it, and should outlive the runner: what was copied in it is worth nothing without it. So
a session on the source imports and holds it, in a statement that does not ask its client for anything and ends by
itself when nobody has prolonged it for a while. A sequence says until when: that a row changes it would never see.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from threading import Timer

import psycopg
from psycopg import errors, sql

from foreshard.errors import ForeshardError, ShardUnavailable
from foreshard.postgres import passwords
from foreshard.postgres.connect import Connection, connect
from foreshard.postgres.names import MigrationNames

HELD_S = 600
"""How long a snapshot outlives the runner that copied in it. It keeps the source from removing dead rows."""

_HOLD = """
DO $hold$ BEGIN
    WHILE pg_sequence_last_value({until}::regclass) > extract(epoch FROM clock_timestamp()) LOOP
        PERFORM pg_sleep(0.2);
    END LOOP;
END $hold$
"""

_UNATTENDED = {
    "client_connection_check_interval": "0",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "transaction_timeout": "0",  # 17 and later
}


@dataclass(frozen=True)
class CopySnapshot:
    """A snapshot's name, and the session of the source that holds it: a name is used again after a restart."""

    name: str
    holder_pid: int
    holder_start: datetime


def create_with_slot(
    source: Connection, conninfo: str, names: MigrationNames, slot: str, patience_s: float
) -> CopySnapshot:
    """Create ``slot`` and hold the snapshot that belongs to it. ``conninfo`` leads to the same server as ``source``.

    Everything of the publication must be in it by now. The slot waits for all transactions of the cluster that have
    written, ``patience_s`` at most.

    Raises:
        ForeshardError: a transaction that has written goes on for longer.
    """
    prolong(source, names)
    with _walsender(conninfo, holder_name(names)) as sender:
        exported = _create_slot(sender, slot, patience_s)
        # Prepared while the walsender still has it; from here on the holder has it.
        return _hold(conninfo, names, exported)


def holder_name(names: MigrationNames) -> str:
    """``application_name`` of the session that holds a migration's snapshot."""
    return f"{names.schema} snapshot"


def prolong(source: Connection, names: MigrationNames) -> None:
    """Let the snapshot live for another `HELD_S`."""
    until = sql.Identifier(names.schema, "copy_until")
    source.execute(sql.SQL("CREATE SEQUENCE IF NOT EXISTS {}").format(until))
    source.execute(
        "SELECT setval(%s::regclass, extract(epoch FROM clock_timestamp())::bigint + %s)",
        (until.as_string(source), HELD_S),
    )


def lives(source: Connection, names: MigrationNames, snapshot: CopySnapshot) -> bool:
    """Whether it can still be imported."""
    row = source.execute(
        "SELECT FROM pg_stat_activity WHERE application_name = %s AND usename = current_user"
        "   AND pid = %s AND backend_start = %s AND state = 'active'",
        (holder_name(names), snapshot.holder_pid, snapshot.holder_start),
    ).fetchone()
    return row is not None


def release(source: Connection, names: MigrationNames) -> None:
    """Let go of the migration's snapshot, if it has one; dead rows on the source may be removed again. Idempotent."""
    source.execute(
        "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity"
        " WHERE application_name = %s AND usename = current_user AND pid <> pg_backend_pid()",
        (holder_name(names),),
    )


@contextmanager
def _walsender(conninfo: str, application: str) -> Iterator[Connection]:
    try:
        conn = passwords.log_in(
            conninfo, autocommit=True, application_name=application, replication="database", connect_timeout=5
        )
    except psycopg.OperationalError as error:
        raise ShardUnavailable(
            f"No replication connection to the source: {str(error).strip()}",
            remedy="Its role needs REPLICATION, and pg_hba.conf must let it into this database directly.",
        ) from error
    with conn:
        yield conn


def _create_slot(sender: Connection, slot: str, patience_s: float) -> str:
    """The exported snapshot's name. A walsender knows no statement_timeout."""
    command = sql.SQL("CREATE_REPLICATION_SLOT {} LOGICAL pgoutput (SNAPSHOT 'export')").format(
        sql.Identifier(slot)
    )
    timer = Timer(patience_s, sender.cancel_safe)
    timer.start()
    try:
        row = sender.execute(command).fetchone()
    except errors.QueryCanceled as error:
        raise ForeshardError(
            f"Replication slot {slot} could not be made within {patience_s:g} s: a transaction of the source's"
            " cluster, in any database, has written and does not end.",
            remedy="End it (preflight names long transactions), then resume.",
        ) from error
    finally:
        timer.cancel()
    assert row is not None  # slot_name, consistent_point, snapshot_name, output_plugin
    return str(row[2])


def _hold(conninfo: str, names: MigrationNames, exported: str) -> CopySnapshot:
    conn = connect(conninfo, application=holder_name(names))
    try:
        conn.execute(
            "SELECT set_config(name, wish, false)"
            "  FROM unnest(%s::text[], %s::text[]) AS wanted (name, wish) JOIN pg_settings USING (name)",
            (list(_UNATTENDED), list(_UNATTENDED.values())),
        )
        conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        conn.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(exported)))
        row = conn.execute(
            "SELECT pg_export_snapshot(), pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
        ).fetchone()
        assert row is not None
        until = sql.Identifier(names.schema, "copy_until").as_string(conn)
        statement = sql.SQL(_HOLD).format(until=sql.Literal(until)).as_string(conn)
        # Sent and not waited for: the session goes on without us, also when this connection is gone.
        conn.pgconn.nonblocking = 1
        conn.pgconn.send_query(statement.encode())
        while conn.pgconn.flush():
            pass
    finally:
        conn.pgconn.finish()
    return CopySnapshot(*row)
