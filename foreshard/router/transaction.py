"""One transaction on one key's bucket: opened with the ownership question, committed with care."""

from __future__ import annotations

import select
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from functools import lru_cache
from string import Formatter
from typing import Any, TypeAlias

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from foreshard.errors import ForeshardError, InvalidInput, UnknownCommitOutcome
from foreshard.router.failures import connection_lost
from foreshard.router.pool import Connection
from foreshard.topology.keys import Key, KeyType
from foreshard.topology.routing_map import Route

Parameters: TypeAlias = Sequence[Any] | Mapping[str, Any] | None
Row: TypeAlias = tuple[Any, ...]
Query: TypeAlias = str | sql.SQL | sql.Composed

# The cast picks the overload by the column's type, however the driver would have sent the key.
_ASSERT_OWNER = {
    kind: sql.SQL("SELECT foreshard.assert_owner(%s::text, %s::{})").format(sql.Identifier(kind.value))
    for kind in KeyType
}


class Isolation(StrEnum):
    """Isolation of a transaction. SERIALIZABLE would not hold across two shards and is not offered."""

    READ_COMMITTED = "READ COMMITTED"
    REPEATABLE_READ = "REPEATABLE READ"


class Transaction:
    """What a transaction's body works with. Names are qualified: the search path holds no bucket.

    ``redirected`` says that the key was already served by a migration's target before its cutover.
    """

    def __init__(self, connection: Connection, route: Route, *, redirected: bool) -> None:
        self._connection = connection
        self.route = route
        self.redirected = redirected

    @property
    def schema(self) -> str:
        """The bucket's schema."""
        return self.route.bucket

    def table(self, name: str) -> sql.Identifier:
        """The qualified name of a table of the bucket."""
        return sql.Identifier(self.schema, name)

    def execute(self, query: Query, parameters: Parameters = None) -> psycopg.Cursor[Row]:
        """Run one statement. In a plain string ``{name}`` stands for the bucket's table of that name."""
        return self._connection.execute(
            qualified(query, self.schema, with_parameters=parameters is not None), parameters
        )

    def cursor(self) -> psycopg.Cursor[Row]:
        """A cursor within this transaction."""
        return self._connection.cursor()


def qualified(query: Query, schema: str, *, with_parameters: bool = False) -> sql.SQL | sql.Composed:
    """The query with every ``{name}`` of a plain string replaced by the table's qualified name.

    ``with_parameters``: it is going to have some, so psycopg will read a percent sign in a name unless it is doubled.
    """
    return _qualified(query, schema, with_parameters) if isinstance(query, str) else query


@lru_cache(maxsize=4096)
def _qualified(query: str, schema: str, with_parameters: bool) -> sql.SQL | sql.Composed:
    percent = "%%" if with_parameters else "%"
    names = {name for _, name, _, _ in Formatter().parse(query) if name is not None}
    if not all(names):
        raise InvalidInput(
            "query", "has {} without a table's name", remedy="Write {name}; double other braces."
        )
    return sql.SQL(query).format(
        **{name: sql.Identifier(schema.replace("%", percent), name.replace("%", percent)) for name in names}
    )


@contextmanager
def transaction(
    connection: Connection,
    route: Route,
    key: Key,
    key_type: KeyType,
    *,
    redirected: bool,
    read_only: bool = False,
    ask_owner: bool = True,
    isolation: Isolation = Isolation.READ_COMMITTED,
) -> Iterator[Transaction]:
    """Open a transaction, yield it, commit it; roll back on any error.

    ``ask_owner``: `foreshard.assert_owner` is sent together with BEGIN, in one round trip. From its answer to
    the end of the transaction the key's owner cannot change.

    Raises:
        psycopg.Error: nothing was committed; `failures.classify` says whether to try again.
        UnknownCommitOutcome: the connection broke while COMMIT was under way.
        ForeshardError: the body swallowed an error or ended the transaction itself.
    """
    try:
        _begin(
            connection, route, key, key_type, read_only=read_only, ask_owner=ask_owner, isolation=isolation
        )
        yield Transaction(connection, route, redirected=redirected)
        _require_open(connection, route)
    except BaseException:
        with suppress(psycopg.Error):
            connection.rollback()
        raise
    _commit(connection, route, read_only=read_only)


def _begin(
    connection: Connection,
    route: Route,
    key: Key,
    key_type: KeyType,
    *,
    read_only: bool,
    ask_owner: bool,
    isolation: Isolation,
) -> None:
    begin = sql.SQL(f"BEGIN ISOLATION LEVEL {isolation.value} {'READ ONLY' if read_only else 'READ WRITE'}")
    if not ask_owner:
        connection.execute(begin)
        return
    with connection.pipeline():
        connection.execute(begin)
        connection.execute(_ASSERT_OWNER[key_type], (route.bucket, key))


def _require_open(connection: Connection, route: Route) -> None:
    status = connection.info.transaction_status
    if status is TransactionStatus.INTRANS:
        _require_alive(connection)
    elif status is TransactionStatus.INERROR:
        raise ForeshardError(
            "A statement of the transaction failed and its error was swallowed; nothing was committed.",
            remedy="Let the error out, or put the statement into a savepoint.",
            bucket=route.bucket,
        )
    elif status is TransactionStatus.UNKNOWN:
        raise psycopg.OperationalError("the connection was lost before COMMIT was sent")
    else:
        raise ForeshardError(
            "The transaction was ended inside its own block.",
            remedy="Leave COMMIT and ROLLBACK to the router.",
            bucket=route.bucket,
        )


def _require_alive(connection: Connection) -> None:
    """Raise if the server has already hung up: COMMIT is not sent then, and the attempt may be repeated."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    while poll.poll(0):  # a last message of the server may stand before the end of the stream
        connection.pgconn.consume_input()  # raises at the end


def _commit(connection: Connection, route: Route, *, read_only: bool) -> None:
    try:
        answer = connection.execute("COMMIT").statusmessage
    except psycopg.Error as error:
        if read_only or not connection_lost(error, connection):
            raise  # the server answered that it rolled back: a deferred constraint, a serialisation failure
        connection.close()
        raise UnknownCommitOutcome(
            f"The connection to {route.shard} broke while COMMIT was under way: nobody knows if it happened.",
            remedy="Read back whether the change is there, by a key of its own, before doing it again.",
            shard=route.shard,
            bucket=route.bucket,
        ) from error
    except BaseException:  # interrupted while waiting for the answer: no later user may inherit it
        connection.close()
        raise
    if answer != "COMMIT":
        raise ForeshardError(
            f"The server answered COMMIT with {answer}; nothing was committed.", bucket=route.bucket
        )
