"""What a server is and allows, asked in one query; and how far its clock is from ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from psycopg.rows import class_row

from foreshard.postgres.connect import Connection, sql_file
from foreshard.postgres.subscriptions import QUIET


@dataclass(frozen=True)
class ServerFacts:
    """One server as our session sees it.

    ``version`` as in server_version_num; ``free_…``: what its max_… settings leave; ``keep_bytes``:
    max_slot_wal_keep_size, None if it sets no limit; ``idle_timeout_s``: idle_replication_slot_timeout, None if slots
    never time out; ``owns_schema``: Foreshard's own;
    ``may_keep_quiet``: to keep a statement out of the log; ``may_monitor``: to see other roles' statements and the
    server's settings; ``old_transactions``: in words; ``session``:
    what a session of the same cluster finds of ours in pg_stat_activity.
    """

    version: int
    in_recovery: bool
    read_only: bool
    backend_pid: int
    keeps_settings: bool
    wal_level: str
    free_slots: int
    free_senders: int
    free_origins: int
    free_appliers: int
    free_workers: int
    sync_workers: int
    keep_bytes: int | None
    idle_timeout_s: float | None
    may_replicate: bool
    may_subscribe: bool
    may_monitor: bool
    may_create: bool
    owns_schema: bool
    may_keep_quiet: bool
    prepared: list[str]
    old_transactions: list[str]
    system_identifier: int
    session: str
    database: str
    encoding: str
    collation: str
    collation_version: str


@dataclass(frozen=True)
class ClockOffset:
    """A server's clock minus ours, in seconds, and how wrong that may be: half of the round trip."""

    seconds: float
    uncertainty_s: float


def read(conn: Connection, old_s: float) -> ServerFacts:
    """The facts; transactions count as old after ``old_s`` seconds. Works on a standby, too."""
    with conn.cursor(row_factory=class_row(ServerFacts)) as cursor:
        facts = cursor.execute(
            sql_file("server_facts.sql"), {"old_s": old_s, "quiet": list(QUIET)}
        ).fetchone()
    assert facts is not None  # our own database
    return facts


def sees(conn: Connection, session: str) -> bool:
    """Whether a `ServerFacts.session` that is open now belongs to the same cluster as ``conn``."""
    row = conn.execute(
        "SELECT 1 FROM pg_stat_activity WHERE pid || ' ' || backend_start = %s", (session,)
    ).fetchone()
    return row is not None


def clock_offset(conn: Connection, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> ClockOffset:
    """The server's clock against ``now``."""
    before = now()
    row = conn.execute("SELECT clock_timestamp()").fetchone()
    after = now()
    assert row is not None  # a SELECT without FROM has one row
    middle = before + (after - before) / 2
    return ClockOffset((row[0] - middle).total_seconds(), (after - before).total_seconds() / 2)
