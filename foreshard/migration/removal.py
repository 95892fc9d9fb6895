"""Removing what one migration has on one shard, step by step. Used by teardown (both sides) and by the janitor.

The order over both sides is the caller's: subscriptions first (nothing is emptied while a subscription reads it),
then slots, then the copy of the side that lost, then publication and guard. Every step is idempotent.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from functools import partial

import psycopg
from psycopg import errors

from foreshard.errors import ForeshardError
from foreshard.postgres import (
    copy_snapshot,
    guard,
    publications,
    repair_session,
    replication_slots,
    subscriptions,
)
from foreshard.postgres.connect import Connection
from foreshard.postgres.guard import Side
from foreshard.postgres.names import MigrationNames

ATTEMPTS = 60

SYNC_SLOTS = "sync slots"
"""Kind of the resource that stands for the slots by which a subscription copies its tables."""


def lock_briefly(conn: Connection) -> None:
    """Locks are asked for briefly and often, so that writers never queue behind us for long."""
    conn.execute("SET lock_timeout = '200ms'")


def subscription_on(names: MigrationNames, side: Side) -> str:
    """The subscription of that side; the slot of the same name is the other side's."""
    return names.reverse if side is Side.SOURCE else names.forward


def slot_on(names: MigrationNames, side: Side) -> str:
    """The slot of that side."""
    return subscription_on(names, side.other)


def drop_subscription(
    conn: Connection, names: MigrationNames, side: Side, *, publisher_gone: bool, attempts: int = ATTEMPTS
) -> None:
    """End what this side reads from the other one."""
    name = subscription_on(names, side)
    patiently(partial(subscriptions.unsubscribe, conn, name, publisher_gone=publisher_gone), attempts)


def drop_slots(
    conn: Connection, names: MigrationNames, side: Side, sync_slots: Iterable[str], attempts: int = ATTEMPTS
) -> None:
    """End what the other side reads, or copies, from this one. ``sync_slots``: recorded names of kind `SYNC_SLOTS`."""
    if side is Side.SOURCE:
        copy_snapshot.release(conn, names)
    for slot in (slot_on(names, side), *sync_slots):
        patiently(partial(replication_slots.drop, conn, slot), attempts)


def drop_copy(conn: Connection, names: MigrationNames, expected_bound: int, attempts: int = ATTEMPTS) -> None:
    """Drop this side's buckets, if the migration has a bound here; the shard refuses while it owns a key."""
    if guard.state(conn, names) is not None:
        patiently(partial(guard.drop_copy, conn, names, expected_bound), attempts)


def retire(conn: Connection, names: MigrationNames, attempts: int = ATTEMPTS) -> None:
    """Publication, guards, rows, schema: after this, nothing of the migration stands here but data."""
    patiently(partial(publications.drop, conn, names), attempts)
    patiently(partial(guard.retire, conn, names), attempts)
    patiently(partial(repair_session.drop_origin, conn, names), attempts)  # of a repair that died


def patiently(step: Callable[[], object], attempts: int = ATTEMPTS) -> None:
    """Run ``step`` until it gets its locks.

    Raises:
        ForeshardError: it did not in so many attempts; says what was in the way at last.
    """
    for attempt in range(1, attempts + 1):
        try:
            step()
            return
        except (errors.LockNotAvailable, errors.ObjectInUse, errors.DeadlockDetected) as error:
            problem: psycopg.Error | ForeshardError = error
        except ForeshardError as error:
            problem = error
        time.sleep(random.uniform(0.05, 0.3) * min(attempt, 5))
    raise ForeshardError(
        f"Clean-up did not succeed in {attempts} attempts: {problem}",
        remedy="Long transactions or a worker hold the objects; the janitor tries again.",
    )
