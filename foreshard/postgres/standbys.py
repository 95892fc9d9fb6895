"""Standbys of a shard that may be promoted, and whether they have what was committed.

A close that a standby lacks is undone by its promotion: two owners. So a flip waits for standbys on both ends.
"""

from __future__ import annotations

import time
from collections.abc import Collection

from foreshard.postgres.connect import Connection, sql_file

POLL_S = 0.002


def seen(conn: Connection) -> frozenset[str]:
    """Names of standbys that stream now, and of slots whose standby is away. Cascaded ones cannot be seen from here."""
    return frozenset(name for name, _, _ in conn.execute(sql_file("standbys.sql"), {"lsn": None}))


def unwatched(conn: Connection) -> list[str]:
    """Standbys that stream without a slot: once they are away, nothing on this server tells of them."""
    rows = conn.execute(sql_file("standbys.sql"), {"lsn": None})
    return [name for name, slot, _ in rows if slot is None]


def flushed_now(conn: Connection) -> str:
    """Flush all WAL that this server has written, and return an LSN behind it.

    Apply workers commit asynchronously: what they have just applied need not be on disk yet, and standbys are sent only
    what is. Our own synchronous commit flushes it; subscriptions do not ask for messages.
    """
    row = conn.execute("SELECT pg_logical_emit_message(true, 'foreshard', '')::text").fetchone()
    assert row is not None  # a SELECT without FROM has one row
    return str(row[0])


def behind(conn: Connection, lsn: str, expected: Collection[str]) -> list[str]:
    """Which of the ``expected`` standbys (application names) have not flushed ``lsn``, connected or not."""
    rows = conn.execute(sql_file("standbys.sql"), {"lsn": lsn})
    # By either name: one that was first seen while it was away is known by its slot's.
    # Several may share a name (`walreceiver` is the default): then all of them.
    having: set[str] = set()
    lacking: set[str] = set()
    for standby, slot, has in rows:
        (having if has else lacking).update(name for name in (standby, slot) if name is not None)
    return sorted(set(expected) - (having - lacking))


def await_flushed(conn: Connection, expected: Collection[str], timeout_s: float) -> list[str]:
    """Wait until the standbys have all that this server has written now; returns those that had not in time."""
    if not expected:
        return []
    lsn = flushed_now(conn)
    deadline = time.monotonic() + timeout_s
    while (late := behind(conn, lsn, expected)) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return late
