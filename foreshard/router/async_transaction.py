"""`transaction` for asyncio: the same messages and the same care over psycopg's asynchronous connections."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import psycopg
from psycopg import generators

from foreshard.router.async_pool import AsyncConnection
from foreshard.router.opening import Opening
from foreshard.router.transaction import (
    Parameters,
    Place,
    Query,
    Row,
    addressed,
    commit_failed,
    require_answer,
    require_open,
    send_opening,
)


class AsyncTransaction(Place):
    """What a transaction's body works with."""

    def __init__(self, connection: AsyncConnection, opening: Opening) -> None:
        super().__init__(opening)
        self._connection = connection

    async def execute(self, query: Query, parameters: Parameters = None) -> psycopg.AsyncCursor[Row]:
        """Run one statement. In a plain string ``{name}`` stands for the bucket's table of that name."""
        return await self._connection.execute(self._named(query, parameters), parameters)

    def cursor(self) -> psycopg.AsyncCursor[Row]:
        """A cursor within this transaction."""
        return self._connection.cursor()


@asynccontextmanager
async def async_transaction(connection: AsyncConnection, opening: Opening) -> AsyncIterator[AsyncTransaction]:
    """As `transaction`. A task that is cancelled while COMMIT is under way leaves its outcome unknown."""
    try:
        send_opening(connection, opening)
        require_answer(await connection.wait(generators.execute(connection.pgconn)), connection)
        yield AsyncTransaction(connection, opening)
        require_open(connection, opening.route)
    except BaseException:
        with suppress(psycopg.Error):
            await connection.rollback()
        raise
    try:
        await connection.commit()
    except psycopg.Error as error:
        raise commit_failed(error, connection, opening) from error
    except BaseException:
        connection.pgconn.finish()
        raise


async def async_read_once(
    connection: AsyncConnection, opening: Opening, query: Query, parameters: Parameters
) -> psycopg.AsyncCursor[Row]:
    """As `read_once`."""
    statement = addressed(query, opening, parameters)
    if opening.plain:
        return await connection.execute(statement, parameters)
    async with connection.pipeline():
        await connection.execute(opening.preface().encode(), prepare=False)
        return await connection.execute(statement, parameters, prepare=False)
