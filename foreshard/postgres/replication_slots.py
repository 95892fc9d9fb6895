"""Replication slots of one server: what they keep, whether they still serve, and how one is dropped."""

from __future__ import annotations

from psycopg import errors

from foreshard.errors import ForeshardError
from foreshard.postgres.connect import Connection

LOST = "lost"
"""The wal_status of a slot whose WAL was removed; the one before it is `UNRESERVED`."""

UNRESERVED = "unreserved"


def lag_bytes(conn: Connection, slot: str) -> int | None:
    """WAL bytes on this server that the slot's reader has not confirmed; None if there is no such slot."""
    row = conn.execute(
        "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint"
        "  FROM pg_replication_slots WHERE slot_name = %s",
        (slot,),
    ).fetchone()
    return None if row is None else int(row[0] or 0)


def status(conn: Connection, slot: str) -> str | None:
    """PostgreSQL's wal_status of a slot of this server (`LOST`: it serves nobody any more); None if there is none."""
    row = conn.execute(
        "SELECT coalesce(wal_status, 'reserved') FROM pg_replication_slots WHERE slot_name = %s", (slot,)
    ).fetchone()
    return None if row is None else str(row[0])


def serves(conn: Connection, slot: str) -> bool:
    """Whether the slot is there and its WAL, too."""
    return status(conn, slot) not in (None, LOST)


def transactions_sent(conn: Connection, slot: str) -> int:
    """Transactions that the slot's reader was sent: those that began on this server, markers included."""
    row = conn.execute(
        "SELECT total_txns FROM pg_stat_replication_slots WHERE slot_name = %s", (slot,)
    ).fetchone()
    return 0 if row is None else int(row[0])


def like(conn: Connection, pattern: str) -> list[str]:
    """Slots of this database that a name from `subscriptions.sync_slots` stands for."""
    rows = conn.execute(
        "SELECT slot_name FROM pg_replication_slots WHERE slot_name ~ %s AND database = current_database()",
        (expression(pattern),),
    )
    return [name for (name,) in rows]


def expression(pattern: str) -> str:
    """A name from `subscriptions.sync_slots` (or of one slot) as a regular expression."""
    return f"^{pattern.replace('*', '[0-9]+')}$"


def drop(conn: Connection, slot: str) -> None:
    """Drop the slot if it still stands on this server; its reader is cut off. Idempotent.

    The reader is of no use to anybody, but it may not know: that of a subscriber which is gone for good, or behind
    a half-open connection, holds the slot until wal_sender_timeout. ``slot`` may come from `subscriptions.sync_slots`.

    Raises:
        ForeshardError: a slot is still in use.
    """
    which = (expression(slot),)
    try:
        conn.execute(
            "SELECT pg_terminate_backend(active_pid, 1000) FROM pg_replication_slots"
            " WHERE slot_name ~ %s AND database = current_database() AND active_pid IS NOT NULL",
            which,
        )
        conn.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
            " WHERE slot_name ~ %s AND database = current_database()",
            which,
        )
    except (errors.ObjectInUse, errors.UndefinedObject, errors.InsufficientPrivilege) as error:
        raise ForeshardError(
            f"Replication slot {slot} is still in use.", remedy="It is tried again.", slot=slot
        ) from error
