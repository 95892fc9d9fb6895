"""The router for asyncio: what `Router` does, for the tasks of one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from time import perf_counter
from typing import Self, TypeVar

import psycopg

from foreshard.router.async_pool import AsyncConnection, AsyncShardPools
from foreshard.router.async_transaction import AsyncTransaction, async_read_once, async_transaction
from foreshard.router.bucket_finder import Directory
from foreshard.router.core import BucketCall, Call, Pause, RouterCore
from foreshard.router.map_source import MapSource
from foreshard.router.opening import Addressing, Isolation, Opening
from foreshard.router.pool import Addresses, PoolSettings
from foreshard.router.report import BucketRows
from foreshard.router.shadow import ShadowReader
from foreshard.router.telemetry import Telemetry
from foreshard.router.transaction import Parameters, Query, Row
from foreshard.topology.bucketing import BucketOf
from foreshard.topology.keys import Key
from foreshard.topology.routing_map import Intent, RoutingMap

T = TypeVar("T")


class AsyncRouter:
    """`Router`, awaited. Arguments and errors are the same; one instance belongs to one event loop.

    Keys that a directory finds are looked up in a thread, and so is a map that has to be asked for anew.
    """

    def __init__(
        self,
        map_source: MapSource,
        shards: Addresses,
        *,
        application: str = "foreshard-router",
        deadline_s: float = 5.0,
        connections_per_shard: int = 8,
        addressing: Addressing = Addressing.QUALIFIED,
        shadow: ShadowReader | None = None,
        bucket_of: BucketOf | None = None,
    ) -> None:
        self._core = RouterCore(
            map_source,
            application=application,
            deadline_s=deadline_s,
            bucket_of=bucket_of,
            addressing=addressing,
        )
        self._pools = AsyncShardPools(
            shards, PoolSettings(application, connections_per_shard, deadline_s, patience_s=deadline_s)
        )
        self._shadow = shadow
        if shadow is not None:
            shadow.telemetry = self._core.telemetry

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def telemetry(self) -> Telemetry:
        """What this router has counted, for `prometheus.RouterCollector`."""
        return self._core.telemetry

    @property
    def map(self) -> RoutingMap:
        """The source's map with what refusals have taught since."""
        return self._core.map

    async def run(
        self,
        key: Key,
        body: Callable[[AsyncTransaction], Awaitable[T]],
        *,
        isolation: Isolation = Isolation.READ_COMMITTED,
    ) -> T:
        """As `Router.run`."""

        async def once(call: Call, opening: Opening) -> T:
            async with (
                self._connection(call, opening) as connection,
                async_transaction(connection, opening) as tx,
            ):
                return await body(tx)

        return await self._until_done(Call(self._core, key, Intent.WRITE, isolation), once)

    async def execute(self, key: Key, query: Query, parameters: Parameters = None) -> list[Row]:
        """As `Router.execute`."""

        async def body(tx: AsyncTransaction) -> list[Row]:
            cursor = await tx.execute(query, parameters)
            return await cursor.fetchall() if cursor.description else []

        return await self.run(key, body)

    async def query(
        self, key: Key, query: Query, parameters: Parameters = None, *, ordered: bool = False
    ) -> list[Row]:
        """As `Router.query`."""

        async def once(call: Call, opening: Opening) -> list[Row]:
            async with self._connection(call, opening) as connection:
                begun = perf_counter()
                cursor = await async_read_once(connection, opening, query, parameters)
                rows = await cursor.fetchall()
                seconds = perf_counter() - begun
            if self._shadow is not None and call.redirection is not None:
                self._shadow.consider(
                    call.redirection, opening, query, parameters, rows, seconds, ordered=ordered
                )
            return rows

        return await self._until_done(Call(self._core, key, Intent.READ), once)

    @asynccontextmanager
    async def transaction(
        self, key: Key, *, read_only: bool = False, isolation: Isolation = Isolation.READ_COMMITTED
    ) -> AsyncIterator[AsyncTransaction]:
        """As `Router.transaction`."""
        call = Call(self._core, key, Intent.READ if read_only else Intent.WRITE, isolation)
        try:
            while True:
                opening = await self._opening(call)
                inside = False
                try:
                    async with (
                        self._connection(call, opening) as connection,
                        async_transaction(connection, opening) as tx,
                    ):
                        inside = True
                        yield tx
                except psycopg.Error as error:
                    if inside:
                        call.failed_inside(error)
                    await self._pause(call.failed(error))
                else:
                    call.ended(None)
                    return
        except BaseException as error:
            call.ended(error)
            raise

    def write(
        self, key: Key, *, isolation: Isolation = Isolation.READ_COMMITTED
    ) -> AbstractAsyncContextManager[AsyncTransaction]:
        """`transaction` that writes."""
        return self.transaction(key, isolation=isolation)

    def read(self, key: Key) -> AbstractAsyncContextManager[AsyncTransaction]:
        """`transaction` that is READ ONLY."""
        return self.transaction(key, read_only=True)

    async def report(
        self,
        query: Query,
        parameters: Parameters = None,
        *,
        buckets: Iterable[str] | None = None,
        parallel: int = 4,
    ) -> AsyncIterator[BucketRows]:
        """As `Router.report`."""
        names = self._core.map.buckets if buckets is None else tuple(buckets)
        limit = asyncio.Semaphore(parallel)

        async def one(bucket: str) -> BucketRows:
            async with limit:
                return await self._report_of(bucket, query, parameters)

        waiting = [asyncio.ensure_future(one(bucket)) for bucket in names]
        try:
            for answer in asyncio.as_completed(waiting):
                yield await answer
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def close(self) -> None:
        """As `Router.close`."""
        if self._shadow:
            await asyncio.to_thread(self._shadow.close)
        await asyncio.to_thread(self._core.source.close)
        await self._pools.close()
        if isinstance(self._core.bucket_of, Directory):
            await asyncio.to_thread(self._core.bucket_of.close)

    async def _report_of(self, bucket: str, query: Query, parameters: Parameters) -> BucketRows:
        async def once(call: Call, opening: Opening) -> BucketRows:
            assert isinstance(call, BucketCall)
            exact = call.exact
            async with self._connection(call, opening) as connection:
                rows = await (await async_read_once(connection, opening, query, parameters)).fetchall()
            return BucketRows(bucket, opening.route.shard, rows, exact)

        return await self._until_done(BucketCall(self._core, bucket), once)

    async def _until_done(self, call: Call, once: Callable[[Call, Opening], Awaitable[T]]) -> T:
        try:
            while True:
                opening = await self._opening(call)
                try:
                    result = await once(call, opening)
                except psycopg.Error as error:
                    await self._pause(call.failed(error))
                else:
                    call.ended(None)
                    return result
        except BaseException as error:
            call.ended(error)
            raise

    async def _opening(self, call: Call) -> Opening:
        if isinstance(self._core.bucket_of, Directory):
            return await asyncio.to_thread(call.opening)
        return call.opening()

    async def _pause(self, pause: Pause) -> None:
        if pause.refresh:
            await asyncio.to_thread(self._core.source.refresh)
        await asyncio.sleep(pause.seconds)

    def _connection(self, call: Call, opening: Opening) -> AbstractAsyncContextManager[AsyncConnection]:
        return self._pools.connection(
            opening.route.shard, call.connection_wait_s, read_only=opening.read_only
        )
