"""The client-side history of the demo's writers: the only witness of a lost or doubled write.

Source and target were identical in every experiment that lost writes; only what clients were told can show it.
Each operation leaves two rows: an intent before its transaction begins and an outcome after it ended. An intent
without an outcome (the client died in between) is an unknown outcome, so bounds stay exact after a kill -9.
Rows are only added. SQLite in WAL mode keeps them when the process dies, though not when the machine loses power.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from uuid import UUID, uuid4

_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
-- The counter of each aircraft before the first operation, and a flight of it that events can refer to.
CREATE TABLE IF NOT EXISTS start (
    tailnum   TEXT PRIMARY KEY,
    bucket    TEXT NOT NULL,
    cycles    INTEGER NOT NULL,
    flight_id INTEGER NOT NULL
);
-- at: real time, microseconds since 1970, here and below.
CREATE TABLE IF NOT EXISTS intent (
    op_id   TEXT PRIMARY KEY,
    kind    TEXT NOT NULL,
    tailnum TEXT NOT NULL,
    bucket  TEXT NOT NULL,
    at      INTEGER NOT NULL
);
-- redirected: served by a migration's target before its cutover. value: the counter as this operation left it.
CREATE TABLE IF NOT EXISTS outcome (
    op_id      TEXT PRIMARY KEY REFERENCES intent,
    state      TEXT NOT NULL,
    shard      TEXT,
    redirected INTEGER NOT NULL,
    value      INTEGER,
    at         INTEGER NOT NULL
);
"""


class Kind(StrEnum):
    """What an operation does: insert an event, count a take-off in one statement, or read, compute and update."""

    EVENT = "event"
    CYCLE = "cycle"
    READ_MODIFY_WRITE = "rmw"


class State(StrEnum):
    """What the client knows of its operation."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Start:
    """An aircraft before the first operation."""

    tailnum: str
    bucket: str
    cycles: int
    flight_id: int


@dataclass(frozen=True)
class Operation:
    """One operation as the ledger tells it. ``ended_at`` is None if no outcome was written."""

    op_id: UUID
    kind: Kind
    tailnum: str
    bucket: str
    state: State
    shard: str | None
    redirected: bool
    value: int | None
    ended_at: datetime | None


class Ledger:
    """The history in one SQLite file; made if absent. Thread-safe; other processes may read along."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
        self._connection.executescript(_SCHEMA)

    def note_starts(self, starts: Iterable[Start]) -> None:
        """Write down where the counters begin, all or none; what an earlier run noted stays."""
        rows = [(each.tailnum, each.bucket, each.cycles, each.flight_id) for each in starts]
        with self._lock:
            self._connection.execute("BEGIN")
            self._connection.executemany("INSERT OR IGNORE INTO start VALUES (?, ?, ?, ?)", rows)
            self._connection.execute("COMMIT")

    def starts(self) -> dict[str, Start]:
        """Where the counters began, by tail number."""
        with self._lock:
            rows = self._connection.execute("SELECT tailnum, bucket, cycles, flight_id FROM start").fetchall()
        return {row[0]: Start(*row) for row in rows}

    def intend(self, kind: Kind, tailnum: str, bucket: str) -> UUID:
        """Write down that an operation is about to begin."""
        op_id = uuid4()
        self._add("INSERT INTO intent VALUES (?, ?, ?, ?, ?)", (str(op_id), kind, tailnum, bucket, _now()))
        return op_id

    def settle(
        self,
        op_id: UUID,
        state: State,
        *,
        shard: str | None = None,
        redirected: bool = False,
        value: int | None = None,
    ) -> None:
        """Write down how the operation ended; for an acknowledged one also where, and the counter it left."""
        self._add(
            "INSERT INTO outcome VALUES (?, ?, ?, ?, ?, ?)",
            (str(op_id), state, shard, redirected, value, _now()),
        )

    def operations(self) -> Iterator[Operation]:
        """All operations, in the order of their intents."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT i.op_id, i.kind, i.tailnum, i.bucket, coalesce(o.state, 'unknown'), o.shard,"
                "       coalesce(o.redirected, 0), o.value, o.at"
                "  FROM intent i LEFT JOIN outcome o USING (op_id) ORDER BY i.rowid"
            ).fetchall()
        for op_id, kind, tailnum, bucket, state, shard, redirected, value, at in rows:
            yield Operation(
                UUID(op_id),
                Kind(kind),
                tailnum,
                bucket,
                State(state),
                shard,
                bool(redirected),
                value,
                None if at is None else datetime.fromtimestamp(at / 1e6, UTC),
            )

    def acknowledged_between(self, buckets: Iterable[str], since: datetime, until: datetime) -> int:
        """Writes to ``buckets`` acknowledged in ``since <= at < until`` (real time, timezone-aware)."""
        wanted = set(buckets)
        with self._lock:
            rows = self._connection.execute(
                "SELECT i.bucket, count(*) FROM outcome o JOIN intent i USING (op_id)"
                " WHERE o.state = 'acknowledged' AND o.at >= ? AND o.at < ? GROUP BY i.bucket",
                (_micros(since), _micros(until)),
            ).fetchall()
        return sum(count for bucket, count in rows if bucket in wanted)

    def redirected_before(self, instant: datetime) -> int:
        """Writes that a migration's target acknowledged before ``instant`` and before its cutover."""
        with self._lock:
            row = self._connection.execute(
                "SELECT count(*) FROM outcome WHERE state = 'acknowledged' AND redirected AND at < ?",
                (_micros(instant),),
            ).fetchone()
        return int(row[0])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _add(self, statement: str, row: tuple[object, ...]) -> None:
        with self._lock:
            self._connection.execute(statement, row)


def _now() -> int:
    return _micros(datetime.now(UTC))


def _micros(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6)
