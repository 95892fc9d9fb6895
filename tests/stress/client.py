"""A client with one connection to each shard, which asks the owner as the router does and goes to the other if refused.

It has no routing map: it learns the bound from refusals alone, so it meets every state of a flip.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg import sql

from foreshard.errors import ForeshardError, UnknownCommitOutcome
from foreshard.router import Transaction
from foreshard.router.failures import SPANS_OWNERS, Failure, Refusal, classify
from foreshard.router.opening import Isolation, Opening
from foreshard.router.patience import Patience
from foreshard.router.transaction import Row, qualified, transaction
from foreshard.topology.keys import SLOTS
from foreshard.topology.routing_map import Route
from tests.stress.bucket import KEY_TYPE, bucket_of, slot_of
from tests.stress.history import History

T = TypeVar("T")
Connection = psycopg.Connection[tuple[Any, ...]]

ASSERT_OWNER = "SELECT foreshard.assert_owner(%s::text, %s::int8)"
DEADLINE_S = 30.0
OTHER_TIMELINE = "FS005"
"""The guard's answer after a failover, until the server has been taken up again: the same again may succeed."""


class GivenUp(ForeshardError):
    """Nothing was committed: no owner accepted the write in time, or it spans two owners."""


class Hint:
    """Where the bound is, as the newest refusal told. Shared by all clients; wrong for moments, which costs a retry."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flip = 0
        self._bound = 0

    def owner(self, slot: int) -> str:
        """The shard to try first."""
        return "target" if slot < self._bound else "source"

    def learn(self, refusal: Refusal) -> None:
        """The higher flip is the newer one."""
        with self._lock:
            if refusal.flip >= self._flip:
                self._flip, self._bound = refusal.flip, refusal.bound

    def gone(self, shard: str) -> None:
        """This shard has no copy any more: the migration has ended."""
        with self._lock:
            self._bound = 0 if shard == "target" else SLOTS


class Client:
    """Of one thread. ``dsns`` by shard, of the application's role. ``shape`` names what it does, for the history."""

    def __init__(self, dsns: Mapping[str, str], hint: Hint, history: History) -> None:
        self.shape = ""
        self._dsns = dsns
        self._hint = hint
        self._history = history
        self._connections: dict[str, Connection] = {}

    def close(self) -> None:
        """Close both connections."""
        for connection in self._connections.values():
            connection.close()

    def run(
        self,
        key: int,
        body: Callable[[Transaction], T],
        isolation: Isolation = Isolation.READ_COMMITTED,
        *,
        read_only: bool = False,
        before_asking: Callable[[Transaction], None] | None = None,
    ) -> T:
        """Commit ``body`` in one transaction at the key's owner, whose ownership is asked with BEGIN.

        ``before_asking``: what happens in the transaction before the question, such as taking a snapshot that gets old.

        Raises:
            GivenUp: nothing was committed.
            UnknownCommitOutcome: it may have been.
            psycopg.Error: an error that trying again does not mend; nothing was committed.
        """

        def attempt(connection: Connection, route: Route) -> T:
            opening = Opening(
                route, key, KEY_TYPE, read_only, ask_owner=before_asking is None, isolation=isolation
            )
            with transaction(connection, opening) as tx:
                if before_asking is not None:
                    before_asking(tx)
                    tx.execute(sql.SQL(ASSERT_OWNER), (route.bucket, key))
                return body(tx)

        return self._persistently(key, attempt)

    def statement(
        self, key: int, query: LiteralString, parameters: tuple[object, ...], *, ask: bool
    ) -> list[Row]:
        """One autocommitted statement; ``ask``: sent with the question, as one implicit transaction. Raises as `run`.

        Without the question only the row guard stands between the statement and the wrong side.
        """

        def attempt(connection: Connection, route: Route) -> list[Row]:
            try:
                if not ask:
                    return connection.execute(qualified(query, route.bucket), parameters).fetchall()
                with connection.pipeline():
                    connection.execute(ASSERT_OWNER, (route.bucket, key))
                    # Never prepared: psycopg would believe in a Parse that the server skipped after a refusal.
                    cursor = connection.execute(qualified(query, route.bucket), parameters, prepare=False)
                return cursor.fetchall()
            except psycopg.OperationalError as error:
                if classify(error) is Failure.CONNECTION:  # the statement was its own COMMIT
                    connection.close()
                    raise UnknownCommitOutcome(f"{route.shard} went away during a statement.") from error
                raise

        return self._persistently(key, attempt)

    def _persistently(self, key: int, attempt: Callable[[Connection, Route], T]) -> T:
        patience = Patience(DEADLINE_S)
        bucket, slot = bucket_of(key), slot_of(key)
        while True:
            shard = self._hint.owner(slot)
            try:
                route = Route(bucket, shard, slot, migration=None, shadow=None)
                return attempt(self._connection(shard), route)
            except psycopg.Error as error:
                failure = classify(error)
                self._history.retried(self.shape, error.sqlstate or failure.name.lower())
                if failure is Failure.OTHER and error.sqlstate != OTHER_TIMELINE:
                    raise
                if error.sqlstate == SPANS_OWNERS:
                    raise GivenUp("The write spans two owners.") from error
                if failure is Failure.NOT_OWNER and (refusal := Refusal.read(error, shard)) is not None:
                    self._hint.learn(refusal)
                if failure is Failure.GONE:
                    self._hint.gone(shard)
                if failure is Failure.CONNECTION and shard in self._connections:
                    with suppress(psycopg.Error):
                        self._connections.pop(shard).close()
                pause = patience.next_pause()
                if pause is None:
                    raise GivenUp(f"No owner accepted the write within {DEADLINE_S:g} s: {error}") from error
                time.sleep(pause)

    def _connection(self, shard: str) -> Connection:
        known = self._connections.get(shard)
        if known is None or known.closed:
            known = psycopg.connect(
                self._dsns[shard],
                autocommit=True,
                application_name="stress",
                connect_timeout=3,
                options="-c search_path=pg_catalog -c lock_timeout=5s",
            )
            self._connections[shard] = known
        return known
