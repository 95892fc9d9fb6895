"""What a write does once its key's owner was asked. Each returns the value that it leaves in its subject."""

from __future__ import annotations

import time
from typing import LiteralString
from uuid import UUID

from psycopg import sql

from foreshard.errors import ForeshardError
from foreshard.router import Isolation, Transaction
from tests.stress.bucket import CHILDREN

ADD = "UPDATE {counter} SET value = value + 1 WHERE key = %s RETURNING value"
READ = "SELECT value FROM {counter} WHERE key = %s"
LOCK = "SELECT value FROM {counter} WHERE key = %s FOR UPDATE"
SET = "UPDATE {counter} SET value = %s WHERE key = %s RETURNING value"
UPSERT = """
    INSERT INTO {counter} AS c (key, value) VALUES (%s, 1)
    ON CONFLICT (key) DO UPDATE SET value = c.value + 1 RETURNING value
"""
MERGE = """
    MERGE INTO {counter} c USING (VALUES (%s::int8)) AS n (key) ON c.key = n.key
    WHEN MATCHED THEN UPDATE SET value = c.value + 1
    WHEN NOT MATCHED THEN INSERT (key, value) VALUES (n.key, 1)
"""
EVENT = "INSERT INTO {event} (key, op) VALUES (%s, %s)"
COUNT_EVENTS = "SELECT count(*) FROM {event} WHERE key = %s AND op = %s"
READ_PARENT = "SELECT version FROM {parent} WHERE key = %s"
MOVE = "UPDATE {token} SET key = %s, moves = moves + 1 WHERE key = %s AND id = %s RETURNING moves"


class RowMissing(ForeshardError):
    """A row that was acknowledged, and that nobody deletes, is not there: the transaction ran on the wrong side."""


def add(tx: Transaction, key: int) -> int:
    """One statement."""
    return _value(tx, ADD, (key,))


def read_modify_write(tx: Transaction, key: int, isolation: Isolation) -> int:
    """Read, compute, write. READ COMMITTED has to lock the row; REPEATABLE READ finds a concurrent write by itself."""
    now = _value(tx, LOCK if isolation is Isolation.READ_COMMITTED else READ, (key,))
    return _value(tx, SET, (now + 1, key))


def upsert(tx: Transaction, key: int) -> int:
    """INSERT ... ON CONFLICT DO UPDATE, of a counter that may not be there yet."""
    return _value(tx, UPSERT, (key,))


def merge(tx: Transaction, key: int) -> int:
    """MERGE (16 has no RETURNING for it: the row is locked, so a read in the same transaction gives the value)."""
    tx.execute(MERGE, (key,))
    return _value(tx, READ, (key,))


def with_savepoints(tx: Transaction, key: int, op_id: UUID, undone: UUID) -> int:
    """A counter and an event; between them a savepoint with much that is rolled back, and one that stays."""
    value = _value(tx, ADD, (key,))
    tx.execute("SAVEPOINT undone")
    tx.execute("UPDATE {counter} SET value = value + 1000 WHERE key = %s", (key,))
    tx.execute(EVENT, (key, undone))
    tx.execute("ROLLBACK TO SAVEPOINT undone")
    tx.execute("SAVEPOINT kept")
    tx.execute(EVENT, (key, op_id))
    tx.execute("RELEASE SAVEPOINT kept")
    return value


def hold(tx: Transaction, key: int, seconds: float) -> int:
    """Keep the fence for as long as that: a flip has to wait or to give up."""
    value = _value(tx, ADD, (key,))
    time.sleep(seconds)
    return value


def event(tx: Transaction, key: int, op_id: UUID) -> None:
    """One row is added."""
    tx.execute(EVENT, (key, op_id))


def copy(tx: Transaction, key: int, op_id: UUID, rows: int) -> None:
    """COPY of some rows."""
    statement = sql.SQL("COPY {} (key, op) FROM STDIN").format(tx.table("event"))
    with tx.cursor() as cursor, cursor.copy(statement) as stream:
        for _ in range(rows):
            stream.write_row((key, op_id))


def renew_family(tx: Transaction, key: int) -> int:
    """Delete a parent, and by cascade its children; insert all of them again with the next version."""
    _value(tx, LOCK, (key,))  # the counter of that key: a deleted parent cannot be waited for
    version = _value(tx, READ_PARENT, (key,)) + 1
    tx.execute("DELETE FROM {parent} WHERE key = %s", (key,))
    tx.execute("INSERT INTO {parent} VALUES (%s, %s)", (key, version))
    tx.execute(
        "INSERT INTO {child} SELECT %s, n, %s FROM pg_catalog.generate_series(1, %s) n",
        (key, version, CHILDREN),
    )
    return version


def move(tx: Transaction, token: int, key: int, to: int) -> int:
    """Change a row's key."""
    return _value(tx, MOVE, (to, key, token))


def read(tx: Transaction, key: int) -> int:
    """A counter."""
    return _value(tx, READ, (key,))


def read_parent(tx: Transaction, key: int) -> int:
    """A parent's version."""
    return _value(tx, READ_PARENT, (key,))


def count_events(tx: Transaction, key: int, op_id: UUID) -> int:
    """Rows of one write."""
    return _value(tx, COUNT_EVENTS, (key, op_id))


def _value(tx: Transaction, query: LiteralString, parameters: tuple[object, ...]) -> int:
    rows = tx.execute(query, parameters).fetchall()
    if len(rows) != 1:
        raise RowMissing(
            f"{len(rows)} rows on {tx.route.shard} for {' '.join(query.split())} with {parameters}"
        )
    return int(rows[0][0])
