"""One transaction on one key's bucket: opened with the ownership question, committed with care."""

from __future__ import annotations

import select
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from string import Formatter
from typing import Any, TypeAlias

import psycopg
from psycopg import generators, sql
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult

from foreshard.errors import ForeshardError, InvalidInput, UnknownCommitOutcome
from foreshard.router.failures import connection_lost
from foreshard.router.opening import Addressing, Opening
from foreshard.router.pool import Connection
from foreshard.topology.routing_map import Route

Parameters: TypeAlias = Sequence[Any] | Mapping[str, Any] | None
Row: TypeAlias = tuple[Any, ...]
Query: TypeAlias = str | sql.SQL | sql.Composed


class Place:
    """Where a transaction works, and how its tables are named."""

    def __init__(self, opening: Opening) -> None:
        self._opening = opening

    @property
    def route(self) -> Route:
        """Where it went."""
        return self._opening.route

    @property
    def redirected(self) -> bool:
        """Whether the key was already served by a migration's target before its cutover."""
        return self._opening.redirected

    @property
    def schema(self) -> str:
        """The bucket's schema."""
        return self._opening.route.bucket

    def table(self, name: str) -> sql.Identifier:
        """The qualified name of a table of the bucket."""
        return sql.Identifier(self.schema, name)

    def _named(self, query: Query, parameters: Parameters) -> sql.SQL | sql.Composed:
        return addressed(query, self._opening, parameters)


class Transaction(Place):
    """What a transaction's body works with."""

    def __init__(self, connection: Connection, opening: Opening) -> None:
        super().__init__(opening)
        self._connection = connection

    def execute(self, query: Query, parameters: Parameters = None) -> psycopg.Cursor[Row]:
        """Run one statement. In a plain string ``{name}`` stands for the bucket's table of that name."""
        return self._connection.execute(self._named(query, parameters), parameters)

    def cursor(self) -> psycopg.Cursor[Row]:
        """A cursor within this transaction."""
        return self._connection.cursor()


def addressed(query: Query, opening: Opening, parameters: Parameters) -> sql.SQL | sql.Composed:
    """The query with its tables named as the opening says."""
    schema = opening.route.bucket if opening.addressing is Addressing.QUALIFIED else None
    return qualified(query, schema, with_parameters=parameters is not None)


def qualified(query: Query, schema: str | None, *, with_parameters: bool = False) -> sql.SQL | sql.Composed:
    """The query with every ``{name}`` of a plain string replaced by the table's qualified name, or without a schema.

    ``with_parameters``: it is going to have some, so psycopg will read a percent sign in a name unless it is doubled.
    """
    return _qualified(query, schema, with_parameters) if isinstance(query, str) else query


@lru_cache(maxsize=4096)
def _qualified(query: str, schema: str | None, with_parameters: bool) -> sql.SQL | sql.Composed:
    names = {name for _, name, _, _ in Formatter().parse(query) if name is not None}
    if not all(names):
        raise InvalidInput(
            "query", "has {} without a table's name", remedy="Write {name}; double other braces."
        )
    percent = "%%" if with_parameters else "%"

    def identifier(name: str) -> sql.Identifier:
        parts = (name,) if schema is None else (schema, name)
        return sql.Identifier(*(part.replace("%", percent) for part in parts))

    composed = sql.SQL(query).format(**{name: identifier(name) for name in names})
    return sql.SQL(
        composed.as_string()
    )  # made once: joining the parts at each use takes as long as the lookup


@contextmanager
def transaction(connection: Connection, opening: Opening) -> Iterator[Transaction]:
    """Open a transaction, yield it, commit it; roll back on any error.

    Raises:
        psycopg.Error: nothing was committed; `failures.classify` says whether to try again.
        UnknownCommitOutcome: the connection broke while COMMIT was under way.
        ForeshardError: the body swallowed an error or ended the transaction itself.
    """
    try:
        begin(connection, opening)
        yield Transaction(connection, opening)
        require_open(connection, opening.route)
    except BaseException:
        with suppress(psycopg.Error):
            connection.rollback()
        raise
    try:
        connection.commit()
    except psycopg.Error as error:
        raise commit_failed(error, connection, opening) from error
    except BaseException:  # interrupted while waiting for the answer: no later user may inherit it
        connection.close()
        raise


def begin(connection: Connection, opening: Opening) -> None:
    """Send what opens the transaction, in one message: one round trip."""
    # Not by `execute`: a cursor that nobody reads would take a third of a short transaction's time.
    send_opening(connection, opening)
    require_answer(connection.wait(generators.execute(connection.pgconn)), connection)


def send_opening(connection: psycopg.BaseConnection[Any], opening: Opening) -> None:
    """Put the message on its way; its answers are still to be taken."""
    connection.pgconn.send_query("; ".join(opening.statements()).encode())


def require_answer(results: Sequence[PGresult], connection: psycopg.BaseConnection[Any]) -> None:
    """Raise the error that the server answered with, if it did: as `execute` would."""
    if results[-1].status == ExecStatus.FATAL_ERROR:
        raise error_from_result(results[-1], connection.info.encoding)


def read_once(
    connection: Connection, opening: Opening, query: Query, parameters: Parameters
) -> psycopg.Cursor[Row]:
    """One read, in one round trip: alone, or behind what is to be asked first, as one transaction.

    The pipeline makes them one: the server commits at its end. So the owner cannot change between the two.
    """
    statement = addressed(query, opening, parameters)
    if opening.plain:
        return connection.execute(statement, parameters)
    with connection.pipeline():
        connection.execute(opening.preface().encode(), prepare=False)
        # Never prepared: psycopg would believe in a Parse that the server skipped after a refusal.
        return connection.execute(statement, parameters, prepare=False)


def require_open(connection: psycopg.BaseConnection[Any], route: Route) -> None:
    """Raise unless the transaction is as it should be before COMMIT, and the server still there.

    Raises:
        ForeshardError: the body swallowed an error or ended the transaction itself.
        psycopg.OperationalError: the server has hung up; nothing was committed.
    """
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


def _require_alive(connection: psycopg.BaseConnection[Any]) -> None:
    """Raise if the server has already hung up: COMMIT is not sent then, and the attempt may be repeated."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    while poll.poll(0):  # a last message of the server may stand before the end of the stream
        connection.pgconn.consume_input()  # raises at the end


def commit_failed(
    error: psycopg.Error, connection: psycopg.BaseConnection[Any], opening: Opening
) -> psycopg.Error | UnknownCommitOutcome:
    """What a COMMIT that ended with ``error`` means: the error itself if the server says that it rolled back.

    A connection whose COMMIT was not answered is finished: nobody may use it again.
    """
    if opening.read_only or not connection_lost(error, connection):
        return error  # a deferred constraint, a serialisation failure
    connection.pgconn.finish()
    route = opening.route
    return UnknownCommitOutcome(
        f"The connection to {route.shard} broke while COMMIT was under way: nobody knows if it happened.",
        remedy="Read back whether the change is there, by a key of its own, before doing it again.",
        shard=route.shard,
        bucket=route.bucket,
    )
