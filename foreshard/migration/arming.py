"""Guards onto all tables of a migration, one after the other, with waits for each table's lock.

CREATE TRIGGER waits for writers, and new ones queue behind it. Where an application writes the waits are short, and
repeated. On a side that serves nobody they may last: an autovacuum of a table that was just filled gives way only to
who has waited for deadlock_timeout.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial

from psycopg import errors, sql

from foreshard.errors import ForeshardError
from foreshard.migration.progress import Progress, Report
from foreshard.migration.work import Work
from foreshard.postgres import guard
from foreshard.postgres.connect import Connection

ATTEMPTS = 100


def arm(work: Work, conn: Connection, report: Report, *, serving: bool) -> None:
    """The guards that let owners write and refuse all others; a copy guard that stands there goes in the same moment.

    ``serving``: an application writes there.

    Raises:
        ForeshardError: a long transaction holds a table.
    """
    guard.create_guards(conn, work.names, work.tables.values(), work.key_type)
    wait_ms = work.settings.lock_timeout_ms if serving else long_wait_ms(conn)
    _each(
        work,
        conn,
        report,
        lambda table, column: guard.arm(conn, work.names, table, column, work.key_type),
        wait_ms,
    )


def arm_for_copy(work: Work, conn: Connection, report: Report) -> None:
    """The guards of a side that is copied to: nobody may write but the copy.

    Raises:
        ForeshardError: a long transaction holds a table.
    """
    guard.create_copy_guard(conn, work.names)
    _each(
        work, conn, report, lambda table, _: guard.arm_for_copy(conn, work.names, table), long_wait_ms(conn)
    )


def long_wait_ms(conn: Connection) -> int:
    """A wait after which an autovacuum has given way, in milliseconds: twice the server's deadlock_timeout."""
    row = conn.execute(
        "SELECT 2 * setting::int FROM pg_settings WHERE name = 'deadlock_timeout'"  # its unit is ms
    ).fetchone()
    assert row is not None
    return int(row[0])


def _each(
    work: Work, conn: Connection, report: Report, put: Callable[[sql.Identifier, str], None], wait_ms: int
) -> None:
    conn.execute(f"SET lock_timeout = {wait_ms}".encode())
    tables = guard.tables_of(work.buckets, work.tables)
    for number, (table, column) in enumerate(tables, 1):
        patiently(table, partial(put, table, column))
        report(Progress("guards", number, len(tables), "tables"))
    conn.execute("SET lock_timeout = 0")


def patiently(table: sql.Identifier, put: Callable[[], None]) -> None:
    """Tries again whenever the lock on ``table`` cannot be had within the session's lock_timeout."""
    for _ in range(ATTEMPTS):
        try:
            put()
            return
        except errors.LockNotAvailable:
            time.sleep(random.uniform(0.02, 0.2))
    raise ForeshardError(
        f"No lock on {table.as_string()} in {ATTEMPTS} attempts.",
        remedy="A long transaction holds it; end it or try again later.",
    )
