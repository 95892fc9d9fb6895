"""Lets a `Work` keep its connections to shards from one flip to the next.

A flip opens half a dozen, which costs more than all else in it. Ten thousand flips are to try the protocol, not the
login; sessions are reset before they are used again, so each flip finds them as if they were new.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.pq import TransactionStatus

from foreshard.migration.work import Work
from foreshard.postgres.connect import Connection, connect
from foreshard.postgres.guard import Side


@contextmanager
def kept_connections(work: Work) -> Iterator[None]:
    """Within the block the connections of ``work`` are kept; they are closed at its end."""
    idle: dict[tuple[Side, float], list[Connection]] = defaultdict(list)

    @contextmanager
    def kept(side: Side, statement_timeout_s: float = 0) -> Iterator[Connection]:
        free = idle[side, statement_timeout_s]
        conn = free.pop() if free else connect(work.shard(side).dsn, statement_timeout_s=statement_timeout_s)
        try:
            yield conn
        except BaseException:
            conn.close()  # in whatever state it is
            raise
        _give_back(conn, free)

    work.connection = kept  # type: ignore[method-assign]
    try:
        yield
    finally:
        del work.connection
        for conn in (conn for free in idle.values() for conn in free):
            conn.close()


def _give_back(conn: Connection, idle: list[Connection]) -> None:
    if conn.closed or conn.info.transaction_status is not TransactionStatus.IDLE:
        conn.close()
        return
    try:
        conn.execute("RESET ALL")
        conn.execute("UNLISTEN *")
        idle.append(conn)
    except psycopg.Error:
        conn.close()
