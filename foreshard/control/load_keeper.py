"""Keeps the store of load: rolls samples up, makes partitions, drops old ones. Run after each collection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg
from psycopg import sql
from psycopg.errors import LockNotAvailable

from foreshard.control import load_partitions
from foreshard.control.engine import ControlDatabase
from foreshard.control.load_levels import FIVE_MINUTES, HOURS, LEVELS, RAW, Level, window_of
from foreshard.control.load_partitions import Partition
from foreshard.control.load_rows import write
from foreshard.control.load_snapshot import LoadSnapshot
from foreshard.control.load_writing import SAMPLES
from foreshard.load.keeping_settings import LoadKeeping

GRACE = timedelta(seconds=90)
"""A window is rolled up that long after its end, so that slow shards do not make it be done twice."""

KEEPER = "foreshard.load.keeper"
"""The advisory lock of who rolls up."""

IMPORT = "foreshard.load.import"
"""The advisory lock that imports share: while one runs nothing is dropped that windows are made of."""

_ROWS_AT_ONCE = 50_000
"""About as many rows (each a shard's array) are rolled up in one transaction."""

_TIMEOUT = "SELECT set_config('lock_timeout', %s, true)"
_ALONE = "SELECT pg_advisory_xact_lock(hashtext(%s))"
_TRY_ALONE = "SELECT pg_try_advisory_xact_lock(hashtext(%s))"
_TRY_KEEPER = "SELECT pg_try_advisory_lock(hashtext(%s))"
_KEEPER = "SELECT pg_advisory_lock(hashtext(%s))"
_CLAIM = """
WITH taken AS (
    DELETE FROM load_marks
    WHERE step = %(step)s AND NOT claimed AND (%(until)s::timestamptz IS NULL OR start <= %(until)s)
    RETURNING start
)
INSERT INTO load_marks (step, claimed, start) SELECT %(step)s, true, start FROM taken ON CONFLICT DO NOTHING
"""
_CLAIMED = """
SELECT start FROM load_marks
WHERE step = %(step)s AND claimed AND (%(until)s::timestamptz IS NULL OR start <= %(until)s) ORDER BY start
"""
_MARK_HOURS = """
INSERT INTO load_marks (step, claimed, start)
SELECT %s, true, start FROM unnest(%s::timestamptz[]) AS given (start) ON CONFLICT DO NOTHING
"""
_DONE = "DELETE FROM load_marks WHERE step = %s AND claimed AND start = ANY (%s)"
_COUNT = """
SELECT w.start, sum(found.rows) FROM unnest(%(starts)s::timestamptz[]) AS w (start)
CROSS JOIN load_metrics AS m
CROSS JOIN LATERAL (
    SELECT count(*) AS rows FROM {table} AS l
    WHERE l.metric = m.id AND l.ts >= w.start AND l.ts < w.start + %(step)s
) AS found
GROUP BY w.start ORDER BY w.start
"""
_MARKED = "SELECT EXISTS (SELECT FROM load_marks WHERE start >= %s AND start < %s)"
_HORIZON = """
INSERT INTO load_horizons AS known (name, at) VALUES (%s, %s)
ON CONFLICT (name) DO UPDATE SET at = greatest(known.at, excluded.at)
"""


@dataclass(frozen=True)
class Kept:
    """What was done: windows and hours rolled up, partitions dropped. ``busy``: another keeper was at it."""

    five_minutes: int = 0
    hours: int = 0
    dropped: tuple[str, ...] = ()
    busy: bool = False


class LoadKeeper:
    """Rolls up and drops. It may be killed anywhere: what it had claimed is done by the next one."""

    def __init__(self, control: ControlDatabase, keeping: LoadKeeping | None = None) -> None:
        self._control = control
        self._keeping = keeping or LoadKeeping()

    def keep(self, now: datetime, offset: timedelta = timedelta(0)) -> Kept:
        """Roll up what is over, make the next partitions, drop those past their time.

        ``offset``: the fleet clock's. Ages are counted from ``now`` or from the database's clock with that offset,
        whichever is earlier: a clock that stepped ahead makes nothing old.
        """
        with self._alone(wait=False) as conn:
            if conn is None:
                return Kept(busy=True)
            windows, hours = self._roll(conn, now - GRACE)
            row = conn.execute("SELECT clock_timestamp()").fetchone()
            assert row is not None
            today = min(now, row[0] + offset)
            with conn.transaction():
                for level in LEVELS:
                    ahead = level.period.end(level.period.start(today))
                    load_partitions.make(conn, load_partitions.needed(level, (today, ahead)))
            return Kept(windows, hours, tuple(self._drop_old(conn, today)))

    def roll_up(self) -> Kept:
        """Roll up all that is marked, whether it is over or not; waits for another keeper."""
        with self._alone(wait=True) as conn:
            assert conn is not None
            return Kept(*self._roll(conn, None))

    @contextmanager
    def _alone(self, *, wait: bool) -> Iterator[psycopg.Connection | None]:
        conn = self._control.connect()
        try:
            conn.autocommit = True
            row = conn.execute(_KEEPER if wait else _TRY_KEEPER, [KEEPER]).fetchone()
            yield conn if wait or (row is not None and row[0]) else None
        finally:
            conn.close()

    def _roll(self, conn: psycopg.Connection, until: datetime | None) -> tuple[int, int]:
        self._claim(conn, until)
        done = []
        for level in (FIVE_MINUTES, HOURS):
            assert level.step is not None
            given = {"step": level.name, "until": None if until is None else until - level.step}
            starts = [start for (start,) in conn.execute(_CLAIMED, given).fetchall()]
            for chunk in _chunks(conn, level, starts):
                _store(conn, level, chunk)
            done.append(len(starts))
        return done[0], done[1]

    def _claim(self, conn: psycopg.Connection, until: datetime | None) -> None:
        """Take the marks, at a moment at which nobody is adding: who comes later marks anew."""
        step = FIVE_MINUTES.step
        assert step is not None
        given = {"step": FIVE_MINUTES.name, "until": None if until is None else until - step}
        try:
            with conn.transaction():
                conn.execute(_TIMEOUT, ["10s"])
                conn.execute(_ALONE, [SAMPLES])
                conn.execute(_CLAIM, given)
        except LockNotAvailable:
            pass  # somebody has been adding for so long: what is marked is claimed the next time

    def _drop_old(self, conn: psycopg.Connection, today: datetime) -> Iterator[str]:
        days = (self._keeping.raw_days, self._keeping.five_minute_days, self._keeping.hour_days)
        for level, kept in zip(LEVELS, days, strict=True):
            for one in load_partitions.existing(conn, level):
                if one.end <= today - timedelta(days=kept):
                    try:
                        with conn.transaction():
                            dropped = _drop(conn, one)
                    except LockNotAvailable:  # a long reading, or many adding: the next time
                        return
                    if dropped:
                        yield level.partition(one.start)


def _chunks(conn: psycopg.Connection, level: Level, starts: Sequence[datetime]) -> Iterator[list[datetime]]:
    """Windows in parts of about `_ROWS_AT_ONCE` rows below them."""
    assert level.below is not None
    if not starts:
        return
    given = {"starts": list(starts), "step": level.step}
    chunk: list[datetime] = []
    size = 0
    for start, rows in conn.execute(sql.SQL(_COUNT).format(table=level.below.table), given).fetchall():
        if chunk and size + rows > _ROWS_AT_ONCE:
            yield chunk
            chunk, size = [], 0
        chunk.append(start)
        size += rows
    yield chunk or list(starts)


def _store(conn: psycopg.Connection, level: Level, starts: Sequence[datetime]) -> None:
    """Roll these windows up, mark what is above them, take their marks away: all or nothing."""
    with conn.transaction():
        load_partitions.make(conn, load_partitions.needed(level, starts))
    with conn.transaction():
        snapshot = LoadSnapshot(conn)
        for metric in snapshot.names.metrics.values():
            write(conn, level, metric.id, snapshot.rolled_up(level, metric, starts))
        if level is FIVE_MINUTES:
            hours = sorted({HOURS.start(start) for start in starts})
            conn.execute(_MARK_HOURS, [HOURS.name, hours])
        conn.execute(_DONE, [level.name, list(starts)])


def _drop(conn: psycopg.Connection, one: Partition) -> bool:
    """Drop a partition, unless it is still to be rolled up. In the open transaction."""
    conn.execute(_TIMEOUT, ["2s"])
    conn.execute(_ALONE, [SAMPLES])
    if one.level is not HOURS:
        row = conn.execute(_TRY_ALONE, [IMPORT]).fetchone()
        if row is None or not row[0]:
            return False
        # Its first sample may be the last of the window before.
        first = window_of(one.start) if one.level is RAW else one.start
        row = conn.execute(_MARKED, [first, one.end]).fetchone()
        if row is None or row[0]:
            return False
        conn.execute(_HORIZON, [one.level.name, one.end])
    load_partitions.drop(conn, one)
    return True
