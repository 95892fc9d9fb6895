"""SQLAlchemy sessions on one key, in a transaction of the router: routing and retries are the router's own.

In the style of SQLAlchemy's horizontal sharding extension, but the other way round: a session belongs to one key, and
so to one shard. Tables are mapped without a schema; the bucket is put before their names (``schema_translate_map``).

SQLAlchemy neither begins nor commits. It is lent the connection of a transaction that the router has opened, with the
question who owns the key, and which the router commits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TypeVar

import psycopg
from sqlalchemy import Connection, event
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import Mapper, Session, object_mapper
from sqlalchemy.orm.attributes import instance_dict
from sqlalchemy.orm.exc import UnmappedColumnError

from foreshard.errors import ForeshardError, InvalidInput
from foreshard.router.failures import Failure, classify
from foreshard.router.lent_connection import Lender
from foreshard.router.opening import Isolation
from foreshard.router.router import Router
from foreshard.router.transaction import Transaction
from foreshard.topology.keys import Key

T = TypeVar("T")


class KeySession(Session):
    """A session on one key. Its objects are not expired at the end, and detached then: what was loaded can be read."""

    def __init__(self, bind: Connection, key: Key, columns: Mapping[str, str]) -> None:
        super().__init__(bind, expire_on_commit=False)
        self.key = key
        self._bound_to = bind
        self._columns = columns

    def refuse_other_keys(self) -> None:
        """Before a flush: whether an object that it writes says another key. What is not set yet follows its parent.

        Raises:
            InvalidInput: (field: its distribution column) it does.
        """
        if not self._columns:
            return
        own = self.key[0] if isinstance(self.key, tuple) else self.key  # what the distribution column holds
        for each in (*self.new, *self.dirty, *self.deleted):
            for attribute in _key_attributes(object_mapper(each), self._columns):
                value = instance_dict(each).get(attribute)  # nothing is loaded for this
                if value is not None and value != own:
                    raise InvalidInput(
                        attribute,
                        f"{type(each).__name__} is of key {value!r}, and the session of {own!r}.",
                        remedy="Write it in a session of its own key.",
                    )

    def done(self) -> None:
        """Its transaction was committed."""
        self.close()
        self._bound_to.close()

    def undone(self) -> None:
        """Its transaction was rolled back: its objects are again what they were, so that a retry can add them."""
        self.rollback()
        self.done()


@event.listens_for(KeySession, "before_flush")
def _before_flush(session: KeySession, context: object, instances: object) -> None:
    del context, instances
    session.refuse_other_keys()


class OrmRouter:
    """Sessions by key. Thread-safe; one for a process. The router is the caller's to close.

    ``columns``: the distribution column by table (`TopologyStore.tables`). With them an object of another key is
    refused when it is flushed; without, by the shards alone, and only while its bucket moves. Statements are not
    looked at.
    """

    def __init__(self, router: Router, columns: Mapping[str, str] | None = None) -> None:
        self.router = router
        self._columns = dict(columns or {})
        self._lender = Lender()

    def run(
        self, key: Key, body: Callable[[Session], T], *, isolation: Isolation = Isolation.READ_COMMITTED
    ) -> T:
        """Run ``body`` in a session on ``key``, flush and commit; repeat it, with a new session, until that succeeds.

        Raises:
            RefusedWrite, ShardUnavailable, UnknownCommitOutcome: as `Router.run`.
            sqlalchemy.exc.DBAPIError: what is wrong with a statement itself. At COMMIT (a deferred constraint) it is
                psycopg's own error.
            InvalidInput: an object is of another key.
        """
        attempts: list[KeySession] = []

        def once(tx: Transaction) -> T:
            _undo(attempts)  # of an attempt whose COMMIT was refused
            with self._session(tx, key) as session:
                attempts.append(session)
                return body(session)

        try:
            result = self.router.run(key, once, isolation=isolation)
        except BaseException:
            _undo(attempts)
            raise
        attempts.pop().done()
        return result

    def write(
        self, key: Key, *, isolation: Isolation = Isolation.READ_COMMITTED
    ) -> AbstractContextManager[Session]:
        """A session on ``key``, flushed and committed at the end of the block; not repeated. Raises as `run`."""
        return self._block(key, self.router.write(key, isolation=isolation))

    def read(self, key: Key) -> AbstractContextManager[Session]:
        """A session on ``key``, READ ONLY."""
        return self._block(key, self.router.read(key))

    @contextmanager
    def _block(self, key: Key, opened: AbstractContextManager[Transaction]) -> Iterator[Session]:
        attempts: list[KeySession] = []
        try:
            with opened as tx, self._session(tx, key) as session:
                attempts.append(session)
                yield session
        except BaseException:
            _undo(attempts)
            raise
        attempts.pop().done()

    @contextmanager
    def _session(self, tx: Transaction, key: Key) -> Iterator[KeySession]:
        """It outlives the block, without a connection, until it is known whether COMMIT succeeded."""
        lent, connection = self._lender.lend(tx.cursor().connection, tx.schema)
        try:
            session = KeySession(connection, key, self._columns)
            yield session
            session.flush()
        except StatementError as error:
            raise _for_the_caller(error) from error
        finally:
            lent.end()


def _for_the_caller(error: StatementError) -> BaseException:
    """What SQLAlchemy has wrapped, where it is ours or the router has an answer to it; else SQLAlchemy's own error."""
    original = error.orig
    if isinstance(original, ForeshardError):
        return original
    if isinstance(original, psycopg.Error) and classify(original) is not Failure.OTHER:
        return original
    return error


def _undo(attempts: list[KeySession]) -> None:
    while attempts:
        attempts.pop().undone()


def _key_attributes(mapper: Mapper[object], columns: Mapping[str, str]) -> Iterator[str]:
    """The attributes that hold the key: one a table that the class is mapped to, if it is mapped."""
    for table in mapper.tables:
        column = columns.get(table.name)
        if column is not None and column in table.c:
            with suppress(UnmappedColumnError):
                yield mapper.get_property_by_column(table.c[column]).key
