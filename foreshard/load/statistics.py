"""Reads the counters of a shard's buckets, and of its server, from PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any, LiteralString

import psycopg

from foreshard.errors import ShardUnavailable
from foreshard.load.counters import BucketCounters, CounterReading, Epoch, ServerTotals
from foreshard.load.instant import Instant

LOCK_TIMEOUT_MS = 200

SIZED_AT_ONCE = 20
SIZED_IN = 60
"""Sizes are read in turns, as they cost far more than counters: so many buckets a time, or more if all would else not
have had their turn after so many times."""

IO_COUNTS_BYTES = 180_000

# A table's size is measured under a lock, which a bucket that is just being dropped or altered withholds.
_LOCK_TIMEOUT = "SELECT set_config('lock_timeout', %s, true)"

Connection = psycopg.Connection[tuple[Any, ...]]


def read_counters(
    conn: Connection,
    shard: str,
    buckets: Sequence[str],
    now: Callable[[], Instant],
    sized_to: str | None = None,
) -> CounterReading:
    """The counters of those ``buckets`` that stand on the shard, and the sizes of those that come after ``sized_to``.

    ``conn`` may be any role's that can connect; no transaction is open on it. The counters lag by about a second, those
    of a session by its transaction. Where a table stays locked for 0.2 s the sizes are left out.

    Raises:
        ShardUnavailable: the shard does not answer, or is in recovery: a standby's counters are not the shard's.
    """
    turn = _turn(sorted(buckets), sized_to)
    try:
        at = now()
        server, timeline, database, started, *resets, clock, transactions, wal = _rows(
            conn, "server_epoch.sql"
        )[0]
        if timeline is None:
            raise ShardUnavailable(
                f"{shard} is in recovery: its address leads to a standby.",
                remedy="Let its DSN lead to the primary.",
                shard=shard,
            )
        io = "server_io.sql" if conn.info.server_version >= IO_COUNTS_BYTES else "server_io_before_18.sql"
        io_reset, io_ops, io_bytes = _rows(conn, io)[0]
        counters = _rows(conn, "bucket_counters.sql", list(buckets))
        sizes = _sizes(conn, turn)
    except psycopg.Error as error:
        raise ShardUnavailable(f"The counters of {shard} could not be read: {error}", shard=shard) from error
    return CounterReading(
        at,
        clock,
        Epoch(server, timeline, database, started, (*resets, io_reset)),
        ServerTotals(transactions, wal, io_ops, io_bytes),
        {bucket: BucketCounters(*totals) for bucket, *totals in counters},
        sizes,
        turn[-1] if len(turn) < len(buckets) else None,
    )


def _sizes(conn: Connection, buckets: list[str]) -> dict[str, int]:
    if not buckets:
        return {}
    try:
        with conn.transaction():
            conn.execute(_LOCK_TIMEOUT, [str(LOCK_TIMEOUT_MS)])
            return dict(_rows(conn, "bucket_sizes.sql", buckets))
    except psycopg.errors.LockNotAvailable:  # their turn comes again
        return {}


def _turn(buckets: list[str], sized_to: str | None) -> list[str]:
    """The next buckets after ``sized_to``, from the beginning again after the last."""
    begin = 0 if sized_to is None else sum(bucket <= sized_to for bucket in buckets)
    return (buckets[begin:] + buckets[:begin])[: max(SIZED_AT_ONCE, -(-len(buckets) // SIZED_IN))]


def _rows(conn: Connection, file: str, buckets: list[str] | None = None) -> list[tuple[Any, ...]]:
    query: LiteralString = (files("foreshard.load") / "sql" / file).read_text(encoding="utf-8")
    return conn.execute(query, None if buckets is None else {"buckets": buckets}).fetchall()
