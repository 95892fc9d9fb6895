"""One small connection pool a shard, opened when the shard is first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
from psycopg import conninfo
from psycopg_pool import ConnectionPool

from foreshard.errors import NotFound
from foreshard.postgres import passwords

Connection = psycopg.Connection[tuple[Any, ...]]

_CONNECT_TIMEOUT_S = 3
_TCP_USER_TIMEOUT_MS = 10_000
_RECONNECT_S = 2.0


class ShardPools:
    """Connections to shards by name. A shard that is down exhausts nothing but its own pool.

    ``shards`` gives a shard's libpq connection string, as a mapping or a function. Connections are in
    autocommit mode: `transaction` sends BEGIN itself, together with its first statement. ``lock_timeout_s``
    bounds how long a statement may wait for a lock.
    """

    def __init__(
        self,
        shards: Mapping[str, str] | Callable[[str], str],
        application: str,
        size: int,
        lock_timeout_s: float,
    ) -> None:
        self._conninfo = shards if callable(shards) else shards.__getitem__
        self._application = application
        self._size = size
        self._options = f"-c search_path=pg_catalog -c lock_timeout={int(lock_timeout_s * 1000)}"
        self._pools: dict[str, ConnectionPool[Connection]] = {}
        self._lock = threading.Lock()
        self._closed = False

    @contextmanager
    def connection(self, shard: str, timeout_s: float) -> Iterator[Connection]:
        """A connection, returned at the end; a broken one is thrown away.

        Raises:
            NotFound: no such shard.
            psycopg_pool.PoolTimeout: none within ``timeout_s``: the shard is down, or all are in use.
        """
        pool = self._pools.get(shard) or self._open(shard)
        connection = pool.getconn(timeout=timeout_s)
        try:
            yield connection
        finally:
            pool.putconn(connection)

    def close(self) -> None:
        """Close all pools; nothing can be opened afterwards."""
        with self._lock:
            self._closed = True
            pools = list(self._pools.values())
            self._pools.clear()
        for pool in pools:
            pool.close(timeout=5)

    def _open(self, shard: str) -> ConnectionPool[Connection]:
        with self._lock:
            if self._closed:
                raise psycopg.InterfaceError("the router is closed")
            if shard not in self._pools:
                dsn = self._dsn(shard)
                self._pools[shard] = ConnectionPool(
                    partial(passwords.completed, dsn),  # asked at every login: the pool keeps no password
                    connection_class=Connection,
                    kwargs={"autocommit": True},
                    min_size=0,
                    max_size=self._size,
                    name=f"{self._application}-{shard}",
                    num_workers=1,
                    # A pool that backs off for minutes would keep a shard away long after its restart.
                    reconnect_timeout=_RECONNECT_S,
                    open=True,
                )
            return self._pools[shard]

    def _dsn(self, shard: str) -> str:
        try:
            given = self._conninfo(shard)
        except KeyError:
            raise NotFound(
                f"The router knows no address of shard {shard!r}.",
                remedy="Add it to the shards that the router is given.",
                shard=shard,
            ) from None
        options = conninfo.conninfo_to_dict(given).get("options")
        return conninfo.make_conninfo(
            given,
            application_name=self._application,
            connect_timeout=_CONNECT_TIMEOUT_S,
            tcp_user_timeout=_TCP_USER_TIMEOUT_MS,
            # No bucket, no `public`: after DROP SCHEMA a bare name would quietly mean another table.
            options=f"{options} {self._options}" if options else self._options,
        )
