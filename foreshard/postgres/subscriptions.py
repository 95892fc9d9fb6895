"""Subscriptions of one side of a migration to the other, for a role that is no superuser.

Everything is idempotent, so that a runner that died may do it again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict

from foreshard.errors import StreamBroken
from foreshard.postgres import replication_slots
from foreshard.postgres.connect import Connection, sql_file, with_password
from foreshard.postgres.names import MigrationNames

WORKER_PATIENCE_S = 30.0

QUIET: Mapping[str, str] = {
    "log_statement": "none",
    "log_min_error_statement": "panic",
    "log_min_duration_statement": "-1",
    "log_min_duration_sample": "-1",
    "log_transaction_sample_rate": "0",
    "track_activities": "off",  # or whoever may read pg_stat_activity reads it there
    "pg_stat_statements.track_utility": "off",
    "pgaudit.log": "none",
}
"""What could show a statement to others. A library that is not loaded does not mind."""


@dataclass(frozen=True)
class TableSync:
    """How far the initial copy of one table is. States: PostgreSQL's, 'r' is ready."""

    schema: str
    table: str
    state: str


@dataclass(frozen=True)
class StreamHealth:
    """One subscription: whether its worker runs, and how often applying or copying failed."""

    enabled: bool
    running: bool
    apply_errors: int
    sync_errors: int


def subscribe(
    conn: Connection,
    publisher: Connection,
    publisher_conninfo: str,
    names: MigrationNames,
    subscription: str,
    *,
    copy_data: bool,
    enabled: bool = True,
) -> None:
    """Create ``subscription`` to the peer's publication; its slot has the same name.

    The slot is made first, by us, unless it is there (a copy began with it; one that an attempt left behind for nothing
    must be gone: `drop_orphaned_slot`). It waits for every transaction of the publisher's cluster that has written, and
    were it made by CREATE SUBSCRIPTION, in a database of that cluster, it would wait for that very statement. So
    ``publisher`` needs a statement_timeout.

    ``origin = none``: rows that came from the peer do not go back. A copy commits synchronously until
    `apply_asynchronously`: a crash that forgets "this table is copied" after its slot was dropped leaves the table
    stuck for ever. Not ``enabled``, nothing is copied yet: there is time to record the names of the slots that the copy
    will make. Rows travel in binary (the copy is twice as fast), unless a column's binary form is the server's own.
    """
    if _exists(conn, "SELECT 1 FROM pg_subscription WHERE subname = %s", subscription):
        return
    if replication_slots.status(publisher, subscription) is None:
        publisher.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (subscription,))
    options = sql.SQL(
        "copy_data = {}, enabled = {}, binary = {}, origin = none, streaming = on, slot_name = {},"
        " create_slot = false, synchronous_commit = {}"
    ).format(
        sql.SQL("true" if copy_data else "false"),
        sql.SQL("true" if enabled else "false"),
        sql.SQL("false" if not_binary(conn, names) else "true"),
        sql.Identifier(subscription),
        sql.SQL("local" if copy_data else "off"),
    )
    failure = _create_subscription(conn, publisher_conninfo, names.publication, subscription, options)
    if failure is not None:
        raise failure


def _create_subscription(
    conn: Connection, publisher_conninfo: str, publication: str, subscription: str, options: sql.Composable
) -> psycopg.Error | None:
    """The one statement that holds a password. Its error is returned anew: frames of the first one hold it too."""
    login = with_password(publisher_conninfo)
    create = sql.SQL("CREATE SUBSCRIPTION {} CONNECTION {} PUBLICATION {} WITH ({})").format(
        sql.Identifier(subscription), sql.Literal(login), sql.Identifier(publication), options
    )
    try:
        with _unlogged(conn):
            conn.execute(create)
    except psycopg.Error as error:
        # The server quotes the statement where it finds fault with its text.
        text = re.sub(r"\n(LINE \d+:.*|\s*\^\s*)", "", str(error)).strip()
        text = text.replace(str(conninfo_to_dict(login)["password"]), "***").replace(login, "***")
        if "ssl" in login or "SSL" in text:
            text += "\nThe subscribing server logs in here: sslrootcert, sslcert and sslkey name files of that server."
        return type(error)(text)
    return None


def could_subscribe(conn: Connection, publisher_conninfo: str) -> str | None:
    """Whether this server reaches the publisher and logs in there; why not, in words. Nothing is left behind.

    It asks by a subscription that is rolled back: who connects is this server, with its network and its files.
    """
    name = "foreshard_doctor"
    options = sql.SQL(
        "connect = true, create_slot = false, slot_name = NONE, enabled = false, copy_data = false"
    )
    try:
        with conn.transaction(force_rollback=True):
            failure = _create_subscription(conn, publisher_conninfo, name, name, options)
            if failure is not None:
                raise failure
    except psycopg.Error as error:
        return str(error).strip().splitlines()[0]
    return None


def not_binary(conn: Connection, names: MigrationNames) -> list[str]:
    """Types in the migration's buckets that cannot travel in binary: arrays of an enum, say. Alike on both sides."""
    rows = conn.execute(sql_file("not_binary.sql"), {"migration": names.schema})
    return [name for (name,) in rows]


def drop_orphaned_slot(subscriber: Connection, publisher: Connection, subscription: str) -> None:
    """Drop a slot without its subscription. The slot is made first: an attempt that was cut off leaves it behind."""
    if health(subscriber, subscription) is None:
        replication_slots.drop(publisher, subscription)


@contextmanager
def _unlogged(conn: Connection) -> Iterator[None]:
    """Keeps statements, failed and slow ones too, out of what others read; `foreshard grants` allows it."""
    for name, value in QUIET.items():
        conn.execute("SELECT set_config(%s, %s, false)", (name, value))
    try:
        yield
    finally:
        for name in QUIET:
            conn.execute(sql.SQL("RESET {}").format(sql.Identifier(*name.split("."))))


def refresh(conn: Connection, subscription: str) -> None:
    """Take up tables that the publisher added since, and copy them."""
    conn.execute(
        sql.SQL("ALTER SUBSCRIPTION {} REFRESH PUBLICATION WITH (copy_data = true)").format(
            sql.Identifier(subscription)
        )
    )


def apply_asynchronously(conn: Connection, subscription: str) -> None:
    """Once everything is copied: what an apply worker has not flushed is sent again after a crash."""
    conn.execute(
        sql.SQL("ALTER SUBSCRIPTION {} SET (synchronous_commit = off)").format(sql.Identifier(subscription))
    )


def enable(conn: Connection, subscription: str) -> None:
    """Let it apply; nothing happens if it does."""
    conn.execute(sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(sql.Identifier(subscription)))


def disable(conn: Connection, subscription: str) -> None:
    """Apply nothing any more until `enable`; the publisher keeps the WAL."""
    conn.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(sql.Identifier(subscription)))


@contextmanager
def paused(conn: Connection, subscription: str) -> Iterator[None]:
    """Nothing is applied while the block runs; the publisher keeps the WAL. Whatever happens, it is enabled again.

    Raises:
        StreamBroken: the worker does not stop.
    """
    disable(conn, subscription)
    try:
        deadline = time.monotonic() + WORKER_PATIENCE_S
        while (status := health(conn, subscription)) is not None and status.running:
            if time.monotonic() > deadline:
                raise StreamBroken(
                    f"The worker of {subscription} does not stop.", remedy="Look at the server's log."
                )
            time.sleep(0.02)
        yield
    finally:
        enable(conn, subscription)


def table_syncs(conn: Connection, subscription: str) -> list[TableSync]:
    """State of every table of the subscription."""
    rows = conn.execute(
        "SELECT n.nspname, c.relname, r.srsubstate::text"
        "  FROM pg_subscription_rel r JOIN pg_subscription s ON s.oid = r.srsubid"
        "  JOIN pg_class c ON c.oid = r.srrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE s.subname = %s ORDER BY 1, 2",
        (subscription,),
    )
    return [TableSync(*row) for row in rows]


def health(conn: Connection, subscription: str) -> StreamHealth | None:
    """Health of a subscription on this server; None if it does not exist. Apply errors repeat silently."""
    row = conn.execute(
        "SELECT s.subenabled,"
        "       EXISTS (SELECT FROM pg_stat_subscription w"
        "                WHERE w.subid = s.oid AND w.pid IS NOT NULL AND w.relid IS NULL),"
        "       coalesce(e.apply_error_count, 0), coalesce(e.sync_error_count, 0)"
        "  FROM pg_subscription s LEFT JOIN pg_stat_subscription_stats e ON e.subid = s.oid"
        " WHERE s.subname = %s",
        (subscription,),
    ).fetchone()
    return None if row is None else StreamHealth(*row)


def sync_slots(conn: Connection, subscription: str) -> str | None:
    """Name, with ``*`` for the table, of the slots on the publisher by which the subscription copies its tables.

    They carry no name of ours (PostgreSQL's ReplicationSlotNameForTablesync): the subscription's oid and the
    subscriber's system identifier tell whose they are. None if there is no such subscription.
    """
    row = conn.execute(
        "SELECT format('pg_%%s_sync_*_%%s', s.oid, c.system_identifier)"
        "  FROM pg_subscription s, pg_control_system() c WHERE s.subname = %s",
        (subscription,),
    ).fetchone()
    return None if row is None else str(row[0])


def unsubscribe(conn: Connection, subscription: str, *, publisher_gone: bool = False) -> None:
    """Drop the subscription, and its slot if the publisher answers. The rest of the slot is `replication_slots.drop`'s.

    ``publisher_gone``: it is not asked; a host that swallows packets would be waited for.
    """
    if not _exists(conn, "SELECT 1 FROM pg_subscription WHERE subname = %s", subscription):
        return
    name = sql.Identifier(subscription)
    if not publisher_gone:
        try:
            conn.execute(sql.SQL("DROP SUBSCRIPTION {}").format(name))
            return
        except (
            errors.ConnectionException,
            errors.ObjectInUse,
            errors.InternalError,
            errors.OperationalError,
        ):
            pass  # the publisher is away or still holds the slot
    disable(conn, subscription)  # cut the tie here; the slot is dropped over there
    conn.execute(sql.SQL("ALTER SUBSCRIPTION {} SET (slot_name = NONE)").format(name))
    conn.execute(sql.SQL("DROP SUBSCRIPTION {}").format(name))


def _exists(conn: Connection, query: str, *parameters: object) -> bool:
    return conn.execute(query.encode(), parameters).fetchone() is not None
