"""Small connection pools, one a shard for writes and one for reads, opened when first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import psycopg
from psycopg import conninfo
from psycopg_pool import ConnectionPool, PoolTimeout

from foreshard.errors import NotFound
from foreshard.postgres import passwords
from foreshard.router.shard_health import ShardHealth

Connection = psycopg.Connection[tuple[Any, ...]]
Addresses: TypeAlias = Mapping[str, str] | Callable[[str], str]
"""The application's libpq connection string of a shard, by name. Raises ``KeyError`` for an unknown shard."""

RECONNECT_S = 2.0
"""A pool that backs off for minutes would keep a shard away long after its restart."""

_CONNECT_TIMEOUT_S = 3
_PREPARED_MAX = 1000
_TCP_USER_TIMEOUT_MS = 10_000


@dataclass(frozen=True)
class PoolSettings:
    """``size`` connections at most to each shard for writes, and as many for reads.

    ``lock_timeout_s`` bounds how long a statement may wait for a lock, ``patience_s`` how long callers wait for a shard
    that does not answer.
    """

    application: str
    size: int
    lock_timeout_s: float
    patience_s: float

    def conninfo(self, address: str, *, read_only: bool) -> str:
        """The connection string of one pool."""
        options = [
            # No bucket, no `public`: after DROP SCHEMA a bare name would quietly mean another table.
            "-c search_path=pg_catalog",
            f"-c lock_timeout={int(self.lock_timeout_s * 1000)}",
        ]
        if read_only:  # so that a read needs no BEGIN READ ONLY around it
            options.append(
                "-c default_transaction_read_only=on -c default_transaction_isolation=read\\ committed"
            )
        given = conninfo.conninfo_to_dict(address).get("options")
        return conninfo.make_conninfo(
            address,
            application_name=self.application,
            client_encoding="UTF8",
            connect_timeout=_CONNECT_TIMEOUT_S,
            tcp_user_timeout=_TCP_USER_TIMEOUT_MS,
            options=" ".join([str(given), *options] if given else options),
        )

    def pool_name(self, shard: str, *, read_only: bool) -> str:
        """What its threads and log lines are called."""
        return f"{self.application}-{shard}-{'reads' if read_only else 'writes'}"


def keep_prepared(connection: psycopg.BaseConnection[Any]) -> None:
    """Let a connection keep the statements of many buckets: each has its own, and 100 would be soon full."""
    connection.prepared_max = _PREPARED_MAX


def address_of(addresses: Addresses, shard: str) -> str:
    """Where ``shard`` is.

    Raises:
        NotFound: nobody knows.
    """
    try:
        return addresses(shard) if callable(addresses) else addresses[shard]
    except KeyError:
        raise NotFound(
            f"The router knows no address of shard {shard!r}.",
            remedy="Add it to the shards that the router is given.",
            shard=shard,
        ) from None


class Lent:
    """How many connections of one pool are in use. Thread-safe."""

    def __init__(self, shard: str, size: int) -> None:
        self._shard, self._size = shard, size
        self._count = 0
        self._lock = threading.Lock()

    def add(self, more: int) -> None:
        """One went out (1) or came back (-1)."""
        with self._lock:
            self._count += more

    def why_none_came(self) -> psycopg.OperationalError:
        """Why there was none in time."""
        if self._count < self._size:
            return psycopg.OperationalError(f"no connection to {self._shard} can be made")
        return psycopg.OperationalError(f"all {self._size} connections to {self._shard} are in use")


class ShardPools:
    """Connections to shards by name. A shard that is down exhausts nothing but its own pools.

    Connections are in autocommit mode: `transaction` sends BEGIN itself.
    """

    def __init__(self, addresses: Addresses, settings: PoolSettings) -> None:
        self._addresses = addresses
        self._settings = settings
        self._pools: dict[tuple[str, bool], ConnectionPool[Connection]] = {}
        self._lock = threading.Lock()
        self._lent: dict[tuple[str, bool], Lent] = {}
        self._closed = False
        self.health = ShardHealth(settings.patience_s)

    @contextmanager
    def connection(self, shard: str, timeout_s: float, *, read_only: bool = False) -> Iterator[Connection]:
        """A connection, returned at the end; a broken one is thrown away, and with it those that stand idle.

        Raises:
            NotFound: no such shard.
            ShardDown: the shard has not answered for long.
            psycopg.OperationalError: none within ``timeout_s``: the shard is down, or all are in use.
        """
        self.health.admit(shard)
        pool = self._pools.get((shard, read_only)) or self._open(shard, read_only)
        try:
            connection = pool.getconn(timeout=timeout_s)
        except PoolTimeout:
            raise self._lent[shard, read_only].why_none_came() from None
        self.health.answered(shard)
        lent = self._lent[shard, read_only]
        lent.add(1)
        try:
            yield connection
        finally:
            broken = connection.closed
            lent.add(-1)
            pool.putconn(connection)
            if broken:  # a server that restarted has broken all of them: each would cost an attempt
                pool.drain()

    def close(self) -> None:
        """Close all pools; nothing can be opened afterwards."""
        with self._lock:
            self._closed = True
            pools = list(self._pools.values())
            self._pools.clear()
        for pool in pools:
            pool.close(timeout=5)

    def _open(self, shard: str, read_only: bool) -> ConnectionPool[Connection]:
        with self._lock:
            if self._closed:
                raise psycopg.InterfaceError("the router is closed")
            if (shard, read_only) not in self._pools:
                dsn = self._settings.conninfo(address_of(self._addresses, shard), read_only=read_only)
                self._lent[shard, read_only] = Lent(shard, self._settings.size)
                self._pools[shard, read_only] = ConnectionPool(
                    partial(passwords.completed, dsn),  # asked at every login: the pool keeps no password
                    connection_class=Connection,
                    kwargs={"autocommit": True},
                    configure=keep_prepared,
                    min_size=0,
                    max_size=self._settings.size,
                    name=self._settings.pool_name(shard, read_only=read_only),
                    num_workers=1,
                    reconnect_timeout=RECONNECT_S,
                    reconnect_failed=lambda _: self.health.failed(shard, RECONNECT_S),
                    open=True,
                )
            return self._pools[shard, read_only]
