"""How a fault comes onto one copy only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from foreshard.fleet.throwaway import ShardDatabase


@contextmanager
def unseen(shard: ShardDatabase) -> Iterator[psycopg.Connection[Any]]:
    """A superuser's session on one side, as the worker that applies changes: no guard sees its writes, no stream
    sends them."""
    with shard.connect() as conn:
        conn.execute("SET session_replication_role = replica")
        conn.execute("SELECT pg_replication_origin_create('fault')")
        conn.execute("SELECT pg_replication_origin_session_setup('fault')")
        try:
            yield conn
        finally:
            conn.execute("SELECT pg_replication_origin_session_reset()")
            conn.execute("SELECT pg_replication_origin_drop('fault')")
