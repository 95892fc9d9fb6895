"""The router for asyncio on real servers: the same core as the other, so here is what its own edges do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import psycopg
import pytest

from foreshard.errors import ForeshardError, RefusedWrite, ShardUnavailable, UnknownCommitOutcome
from foreshard.fleet.throwaway import ShardPair
from foreshard.router import Addressing, AsyncRouter, AsyncTransaction, Isolation, StaticMapSource
from tests.integration.breakable_proxy import BreakableProxy
from tests.integration.guarded_fleet import (
    BOUND,
    KEY,
    LATE_KEY,
    RESTING_KEY,
    Fleet,
    redirection,
    routing_map,
)

T = TypeVar("T")
CYCLES = "SELECT cycles FROM {aircraft} WHERE tailnum = %s"
CYCLE = "UPDATE {aircraft} SET cycles = cycles + 1 WHERE tailnum = %s RETURNING cycles"


@pytest.fixture
def fleet(shard_pair: ShardPair) -> Fleet:
    return Fleet(shard_pair)


def with_router(
    body: Callable[[AsyncRouter], Awaitable[T]],
    shards: dict[str, str],
    source: StaticMapSource | None = None,
    **options: object,
) -> T:
    async def run() -> T:
        async with AsyncRouter(source or StaticMapSource(routing_map()), shards, **options) as router:  # type: ignore[arg-type]
            return await body(router)

    return asyncio.run(run())


async def block(
    entered: AbstractAsyncContextManager[AsyncTransaction], *statements: tuple[str, tuple[str, ...] | None]
) -> None:
    async with entered as tx:
        for statement, parameters in statements:
            await tx.execute(statement, parameters)


def test_reads_writes_and_reports(fleet: Fleet) -> None:
    async def body(router: AsyncRouter) -> None:
        async def two(tx: AsyncTransaction) -> int:
            await tx.execute(CYCLE, (KEY,))
            ((cycles,),) = await (await tx.execute(CYCLE, (KEY,))).fetchall()
            return int(cycles)

        assert await router.run(KEY, two, isolation=Isolation.REPEATABLE_READ) == 2
        assert await router.execute(RESTING_KEY, CYCLE, (RESTING_KEY,)) == [(1,)]
        assert await router.query(KEY, CYCLES, (KEY,)) == [(2,)]
        async with router.write(KEY) as tx:
            await tx.execute(CYCLE, (KEY,))
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            await block(router.read(KEY), (CYCLE, (KEY,)))
        sums = {read.bucket: read.rows async for read in router.report("SELECT sum(cycles) FROM {aircraft}")}
        assert sums == {"b0000": [(3,)], "b0001": [(1,)]}

    with_router(body, fleet.dsns)


def test_a_refusal_heals_the_map_and_reads_go_to_the_owner(fleet: Fleet) -> None:
    fleet.begin_migration()
    fleet.flip(BOUND)

    async def body(router: AsyncRouter) -> None:
        assert await router.execute(KEY, CYCLE, (KEY,)) == [(1,)]
        assert router.map.redirection_of("b0000") == redirection(BOUND)
        assert await router.query(KEY, CYCLES, (KEY,)) == [(1,)]
        assert await router.execute(LATE_KEY, CYCLE, (LATE_KEY,)) == [(1,)]

    with_router(body, fleet.dsns)
    stale = StaticMapSource(routing_map(1, redirection(0)))

    async def read_first(router: AsyncRouter) -> None:
        assert await router.query(KEY, CYCLES, (KEY,)) == [(1,)]

    with_router(read_first, fleet.dsns, stale)


def test_many_tasks_lose_nothing(fleet: Fleet) -> None:
    async def body(router: AsyncRouter) -> None:
        async def increment(tx: AsyncTransaction) -> None:
            ((cycles,),) = await (await tx.execute(CYCLES, (KEY,))).fetchall()
            await tx.execute("UPDATE {aircraft} SET cycles = %s WHERE tailnum = %s", (cycles + 1, KEY))

        await asyncio.gather(
            *(router.run(KEY, increment, isolation=Isolation.REPEATABLE_READ) for _ in range(40))
        )

    with_router(body, fleet.dsns, deadline_s=20.0)
    assert fleet.cycles(fleet.pair.source, KEY) == 40


def test_an_unknown_commit_is_never_repeated(fleet: Fleet) -> None:
    with BreakableProxy(fleet.pair.source.server.port) as proxy:
        calls = []

        async def body(router: AsyncRouter) -> None:
            async def once(tx: AsyncTransaction) -> None:
                calls.append(tx.route.shard)
                await tx.execute(CYCLE, (KEY,))
                proxy.lose_commit.set()

            with pytest.raises(UnknownCommitOutcome):
                await router.run(KEY, once)
            assert calls == ["source"]
            assert await router.execute(KEY, CYCLE, (KEY,)) == [
                (2,)
            ]  # it did happen; the broken one is not used

        with_router(body, {"source": fleet.source_dsn_at(proxy.port)})


def test_a_task_that_is_cancelled_leaves_nothing_half_done(fleet: Fleet) -> None:
    async def body(router: AsyncRouter) -> None:
        entered = asyncio.Event()

        async def for_ever(tx: AsyncTransaction) -> None:
            await tx.execute(CYCLE, (KEY,))
            entered.set()
            await tx.execute("SELECT pg_sleep(60)")

        task = asyncio.create_task(router.run(KEY, for_ever))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await router.query(KEY, CYCLES, (KEY,)) == [(0,)]
        assert await router.execute(KEY, CYCLE, (KEY,)) == [(1,)]

    with_router(body, fleet.dsns, connections_per_shard=1)


def test_blocks_that_cannot_be_repeated_say_so(fleet: Fleet) -> None:
    fleet.begin_migration()
    fleet.flip(BOUND)

    async def body(router: AsyncRouter) -> None:
        with pytest.raises(RefusedWrite):
            await block(router.write(KEY), (CYCLE, (KEY,)), (CYCLE, (LATE_KEY,)))
        with pytest.raises(ForeshardError, match="ended inside"):
            await block(router.write(KEY), ("COMMIT", None))

    with_router(body, fleet.dsns, StaticMapSource(routing_map(1, redirection(BOUND))))
    assert fleet.cycles(fleet.pair.target, KEY) == 0


def test_a_shard_that_is_down_fails_alone(fleet: Fleet) -> None:
    async def body(router: AsyncRouter) -> None:
        await router.execute(KEY, CYCLE, (KEY,))
        fleet.pair.source.server.stop()
        try:
            with pytest.raises(ShardUnavailable):
                await router.execute(KEY, CYCLE, (KEY,))
            assert await router.execute(RESTING_KEY, CYCLE, (RESTING_KEY,)) == [(1,)]
        finally:
            fleet.pair.source.server.start()

    with_router(body, fleet.dsns, deadline_s=1.0)


def test_bare_names_by_the_search_path(fleet: Fleet) -> None:
    async def body(router: AsyncRouter) -> None:
        await router.execute(KEY, "UPDATE aircraft SET cycles = cycles + 1 WHERE tailnum = %s", (KEY,))
        assert await router.query(KEY, "SELECT cycles FROM aircraft WHERE tailnum = %s", (KEY,)) == [(1,)]

    with_router(body, fleet.dsns, addressing=Addressing.SEARCH_PATH)
