"""Guards onto all tables of a migration. CREATE TRIGGER waits for writers and new ones queue behind it: short waits,
and retries."""

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


def arm(work: Work, conn: Connection, report: Report) -> None:
    """The guards that let owners write and refuse all others; a copy guard that stands there goes in the same moment.

    Raises:
        ForeshardError: a long transaction holds a table.
    """
    guard.create_guards(conn, work.names, work.tables.values(), work.key_type)
    _each(work, conn, report, lambda table, column: guard.arm(conn, work.names, table, column, work.key_type))


def arm_for_copy(work: Work, conn: Connection, report: Report) -> None:
    """The guards of a side that is copied to: nobody may write but the copy.

    Raises:
        ForeshardError: a long transaction holds a table.
    """
    guard.create_copy_guard(conn, work.names)
    _each(work, conn, report, lambda table, _: guard.arm_for_copy(conn, work.names, table))


def _each(work: Work, conn: Connection, report: Report, put: Callable[[sql.Identifier, str], None]) -> None:
    conn.execute(f"SET lock_timeout = {work.settings.lock_timeout_ms}".encode())
    tables = guard.tables_of(work.buckets, work.tables)
    for number, (table, column) in enumerate(tables, 1):
        _patiently(table, partial(put, table, column))
        report(Progress("guards", number, len(tables), "tables"))
    conn.execute("SET lock_timeout = 0")


def _patiently(table: sql.Identifier, put: Callable[[], None]) -> None:
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
