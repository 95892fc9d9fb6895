"""Takes one safeguard of the fence away, on both shards of a fleet that is thrown away afterwards.

The functions are changed as the servers have them, so that a control breaks what is there today. A safeguard that is
not found any more is an error: a control that breaks nothing would prove nothing.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import errors, sql

from foreshard.migration.flip import FlipResult, finish_interrupted
from foreshard.migration.runner import Runner
from foreshard.migration.work import Work
from foreshard.postgres import guard
from foreshard.postgres.connect import Connection
from foreshard.postgres.guard import Side
from tests.stress.flipper import real_flip
from tests.stress.stress_fleet import StressFleet, allow_cutover, drain

HELD_BACK_S = 0.3
"""How long writers work on the side that opened before the other side is told, or is told itself what it missed."""

LOCK = r"PERFORM\s+pg_advisory_xact_lock_shared\([^;]*\);"
READ_BOUND = r"state := pg_sequence_last_value\(here\.bound_sequence::regclass\);"
SET_BOUND = r"PERFORM setval\(here\.bound_sequence::regclass, ([^;]+)\);"
_FUNCTIONS = """
SELECT oid::regprocedure::text, pg_get_functiondef(oid) FROM pg_proc
 WHERE pronamespace = 'foreshard'::regnamespace AND prosrc ~ %s
"""


class NothingToBreak(Exception):
    """The safeguard does not look as this control expects: the control has to follow the product."""


def without_lock(fleet: StressFleet) -> None:
    """The guard reads the bound without waiting for a flip that is closing."""
    for shard in (fleet.pair.source, fleet.pair.target):
        with shard.connect() as conn:
            _replace(conn, LOCK, "")


def bound_in_a_table(fleet: StressFleet) -> None:
    """The bound stands in a row, which an old snapshot sees as it was, in place of a sequence, which none does."""
    for shard in (fleet.pair.source, fleet.pair.target):
        with shard.connect() as conn:
            conn.execute(
                "CREATE TABLE foreshard.bound_row (migration_no int PRIMARY KEY, packed bigint NOT NULL)"
            )
            conn.execute("ALTER TABLE foreshard.bound_row OWNER TO foreshard")
            conn.execute(
                "INSERT INTO foreshard.bound_row"
                " SELECT migration_no, pg_sequence_last_value(bound_sequence::regclass) FROM foreshard.sides"
            )
            read = "SELECT b.packed INTO state FROM foreshard.bound_row b WHERE b.migration_no = here.migration_no;"
            write = (
                r"PERFORM setval(here.bound_sequence::regclass, \1);"
                r" UPDATE foreshard.bound_row b SET packed = \1 WHERE b.migration_no = here.migration_no;"
            )
            _replace(conn, READ_BOUND, read, only="require_owner")
            _replace(conn, SET_BOUND, write)


def open_without_marker(runner: Runner, bound: int) -> FlipResult | None:
    """A flip whose open does not wait until the closing side's last writes were applied; these are held back."""
    work = runner.work
    before = work.record.bound
    opening = Side.TARGET if bound > before else Side.SOURCE
    allow_cutover(runner)
    intent = work.flips.intend(work.lease, before, bound)
    with (
        work.connection(opening.other) as closes,
        work.connection(opening) as opens,
        _held_back(work, opens, opening),
    ):
        _close(closes, work, intent.flip_no, bound)
        guard.open_(opens, work.names, intent.flip_no, bound)  # the broken step: nobody waited
        time.sleep(HELD_BACK_S)
    finish_interrupted(work)
    drain(runner)
    return None


def flip_on_a_slow_line(runner: Runner, bound: int) -> FlipResult | None:
    """The product's flip, as it is; only what the new owner writes reaches the old one a while later.

    That breaks nothing: the old owner refuses. But a write that a broken fence lets through there does not meet the
    rows of the new owner any more, a conflict by which PostgreSQL refuses most of what comes with an old snapshot.
    """
    work = runner.work
    loses = Side.SOURCE if bound > work.record.bound else Side.TARGET
    with work.connection(loses) as conn, _held_back(work, conn, loses):
        done = real_flip(runner, bound)
        time.sleep(HELD_BACK_S)
    return done


def _close(conn: Connection, work: Work, flip_no: int, bound: int) -> None:
    conn.execute("SET lock_timeout = '50ms'")
    while True:
        try:
            guard.close(conn, work.names, flip_no, bound, uuid.uuid4(), opens=False)
            return
        except errors.LockNotAvailable:
            time.sleep(0.05)


@contextmanager
def _held_back(work: Work, conn: Connection, side: Side) -> Iterator[None]:
    """Nothing is applied on that side within the block."""
    name = sql.Identifier(work.names.forward if side is Side.TARGET else work.names.reverse)
    conn.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(name))
    try:
        while conn.execute("SELECT 1 FROM pg_stat_subscription WHERE pid IS NOT NULL").fetchone() is not None:
            time.sleep(0.01)
        yield
    finally:
        conn.execute(sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(name))


def _replace(conn: psycopg.Connection[Any], pattern: str, replacement: str, only: str = "") -> None:
    changed = 0
    # Not \s and the like in the question: PostgreSQL's regular expressions are others.
    for name, definition in conn.execute(_FUNCTIONS, ("bound_sequence|xact_lock_shared",)).fetchall():
        if only in name:
            broken, count = re.subn(pattern, replacement, definition)
            if count:
                conn.execute(broken.encode())
                changed += count
    if not changed:
        raise NothingToBreak(f"no function of schema foreshard matches {pattern}")
