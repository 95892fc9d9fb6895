"""`ShardPools` for asyncio: the same settings, health and rules over psycopg's asynchronous pools."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from foreshard.postgres import passwords
from foreshard.router.pool import RECONNECT_S, Addresses, Lent, PoolSettings, address_of, keep_prepared
from foreshard.router.shard_health import ShardHealth

AsyncConnection = psycopg.AsyncConnection[tuple[Any, ...]]


class AsyncShardPools:
    """Connections to shards by name, for the tasks of one event loop."""

    def __init__(self, addresses: Addresses, settings: PoolSettings) -> None:
        self._addresses = addresses
        self._settings = settings
        self._pools: dict[tuple[str, bool], AsyncConnectionPool[AsyncConnection]] = {}
        self._opening = asyncio.Lock()
        self._lent: dict[tuple[str, bool], Lent] = {}
        self._closed = False
        self.health = ShardHealth(settings.patience_s)

    @asynccontextmanager
    async def connection(
        self, shard: str, timeout_s: float, *, read_only: bool = False
    ) -> AsyncIterator[AsyncConnection]:
        """As `ShardPools.connection`."""
        self.health.admit(shard)
        pool = self._pools.get((shard, read_only)) or await self._open(shard, read_only)
        try:
            connection = await pool.getconn(timeout=timeout_s)
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
            await pool.putconn(connection)
            if broken:
                await pool.drain()

    async def close(self) -> None:
        """Close all pools; nothing can be opened afterwards."""
        self._closed = True
        pools = list(self._pools.values())
        self._pools.clear()
        for pool in pools:
            await pool.close(timeout=5)

    async def _open(self, shard: str, read_only: bool) -> AsyncConnectionPool[AsyncConnection]:
        async with self._opening:
            if self._closed:
                raise psycopg.InterfaceError("the router is closed")
            if (shard, read_only) not in self._pools:
                pool = self._pool(shard, read_only)
                await pool.open()
                self._lent[shard, read_only] = Lent(shard, self._settings.size)
                self._pools[shard, read_only] = pool  # not before: another task would find it closed
            return self._pools[shard, read_only]

    def _pool(self, shard: str, read_only: bool) -> AsyncConnectionPool[AsyncConnection]:
        dsn = self._settings.conninfo(address_of(self._addresses, shard), read_only=read_only)
        return AsyncConnectionPool(
            partial(passwords.completed, dsn),
            connection_class=AsyncConnection,
            kwargs={"autocommit": True},
            configure=_keep_prepared,
            min_size=0,
            max_size=self._settings.size,
            name=self._settings.pool_name(shard, read_only=read_only),
            num_workers=1,
            reconnect_timeout=RECONNECT_S,
            reconnect_failed=lambda _: self.health.failed(shard, RECONNECT_S),
            open=False,
        )


async def _keep_prepared(connection: AsyncConnection) -> None:
    keep_prepared(connection)
