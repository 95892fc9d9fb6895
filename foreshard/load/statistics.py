"""Reads the counters of a shard's buckets from PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files
from typing import LiteralString

import psycopg

from foreshard.errors import ShardUnavailable
from foreshard.load.sample import BucketCounters, CounterReading

LOCK_TIMEOUT_MS = 2000

# When counters begin anew: with the server, or by pg_stat_reset(), or after a crash.
_EPOCH = """
SELECT pg_postmaster_start_time(), pg_stat_get_db_stat_reset_time(oid)
FROM pg_database WHERE datname = current_database()
"""

# A table's size is measured under a lock, which a bucket that is just being dropped or altered withholds.
_LOCK_TIMEOUT = "SELECT set_config('lock_timeout', %s, true)"


def read_counters(
    conn: psycopg.Connection[tuple[object, ...]], shard: str, buckets: Sequence[str], ts: datetime
) -> CounterReading:
    """The counters of those ``buckets`` that stand on the shard; ``ts`` is the fleet's time of the reading.

    ``conn`` may be any role's that can connect; no transaction is open on it. The counters lag by about a second.
    Raises ``ShardUnavailable`` if the shard does not answer, or a table stays locked for two seconds.
    """
    query: LiteralString = (files("foreshard.load") / "sql" / "bucket_counters.sql").read_text(
        encoding="utf-8"
    )
    try:
        with conn.transaction(), conn.cursor() as cursor:
            cursor.execute(_LOCK_TIMEOUT, [str(LOCK_TIMEOUT_MS)])
            started, reset = cursor.execute(_EPOCH).fetchone() or (None, None)
            rows = cursor.execute(query, {"buckets": list(buckets)}).fetchall()
    except psycopg.OperationalError as error:
        raise ShardUnavailable(f"The counters of {shard} could not be read: {error}", shard=shard) from error
    assert isinstance(started, datetime)
    assert reset is None or isinstance(reset, datetime)
    counters = {str(bucket): BucketCounters(*map(_count, totals)) for bucket, *totals in rows}
    return CounterReading(ts, shard, started, reset, counters)


def _count(value: object) -> int:
    assert isinstance(value, int)
    return value
