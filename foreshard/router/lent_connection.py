"""The connection of a router's transaction, lent to SQLAlchemy: it may run statements, not begin, commit or keep it.

SQLAlchemy asks a pool for a connection, and rolls back whatever it gives back. So what it gets is a shell around the
router's connection, which is empty once the transaction's block has ended: nothing reaches a connection that somebody
else has from the pool by then.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from psycopg.pq import TransactionStatus
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool

from foreshard.errors import ForeshardError
from foreshard.router.pool import Connection

_OPEN = (TransactionStatus.INTRANS, TransactionStatus.INERROR, TransactionStatus.ACTIVE)
_OURS = "Leave COMMIT and ROLLBACK to the router; `session.flush()` sends what is pending."


class LentConnection:
    """A psycopg connection as SQLAlchemy uses one, as long as it is lent."""

    def __init__(self, connection: Connection) -> None:
        self._connection: Connection | None = connection
        self._ours = True

    def let_go(self) -> None:
        """From here on SQLAlchemy's user may roll back; before, it is SQLAlchemy itself, greeting a new connection."""
        self._ours = False

    def end(self) -> None:
        """Take it back: nothing reaches it any more."""
        self._connection = None

    def cursor(self, *arguments: Any, **named: Any) -> Any:
        """Raises ``ForeshardError`` outside of the transaction: a statement there would ask nobody who owns its key."""
        connection = self._connection
        if connection is None:
            raise ForeshardError("The session's transaction is over.", remedy="Use it within its block.")
        if connection.info.transaction_status not in _OPEN and not connection.closed:
            raise ForeshardError("The transaction was ended inside its own block.", remedy=_OURS)
        return connection.cursor(*arguments, **named)

    def commit(self) -> None:
        """Refused; and whoever swallows that does not get the rest committed either."""
        if self._connection is not None:
            self._connection.rollback()
            raise ForeshardError("A session of the router is not committed by hand.", remedy=_OURS)

    def rollback(self) -> None:
        """Roll back; the router commits nothing after it."""
        if self._connection is not None and not self._ours:
            self._connection.rollback()

    def close(self) -> None:
        """Nothing: it goes back to the router's pool."""

    def add_notice_handler(self, handler: object) -> None:
        """Nothing: handlers would pile up on a connection that is lent again and again."""

    @property
    def closed(self) -> bool:
        """Whether the connection is lost; one that was given back is not ours to judge."""
        return self._connection is not None and self._connection.closed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class Lender:
    """An engine that has no connections of its own. Thread-safe.

    One for all shards: what SQLAlchemy asks the first one about its version holds for all that Foreshard knows.
    """

    def __init__(self) -> None:
        self._next = threading.local()
        self._engine: Engine = create_engine(
            "postgresql+psycopg://",
            creator=lambda: self._next.connection,
            poolclass=NullPool,
            pool_reset_on_return=None,
            use_native_hstore=False,  # it would look the type up on a connection of psycopg's own class
        )

    def lend(self, connection: Connection, tables_in: str) -> tuple[LentConnection, SqlConnection]:
        """The shell, and SQLAlchemy's connection in it; tables without a schema are looked for in ``tables_in``."""
        lent = LentConnection(connection)
        self._next.connection = lent
        try:
            made = self._engine.connect()
        finally:
            del self._next.connection
        lent.let_go()
        options: Mapping[str, Any] = {"schema_translate_map": {None: tables_in}}
        return lent, made.execution_options(**options)
