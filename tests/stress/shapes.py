"""The shapes of writes, and how often each is drawn."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from foreshard.errors import UnknownCommitOutcome
from foreshard.router import Isolation, Transaction
from tests.stress import bodies
from tests.stress.bucket import bucket_of, family_keys, fresh_keys, hot_keys, many_keys, token_keys, tokens
from tests.stress.client import Client
from tests.stress.history import History, Kind, Operation, Subject

COPIED_ROWS = 5
HOT_SHARE = 0.5
OLD_SNAPSHOT_S = 0.03
"""Longer than a flip's pause: the bound moves under many of these snapshots."""

_HOT, _MANY, _FRESH, _FAMILIES = hot_keys(), many_keys(), fresh_keys(), family_keys()


@dataclass(frozen=True)
class Write:
    """A write that was drawn: what it will be held to, its key, and how it is done."""

    operation: Operation
    key: int
    do: Callable[[Client], int | None]
    body: Callable[[Transaction], int | None] | None = None
    """For a router, where `do` is one transaction and nothing else."""
    isolation: Isolation = Isolation.READ_COMMITTED


class Shapes:
    """Draws writes. Of one thread; ``number`` and ``of`` say which tokens are this thread's alone.

    ``colliding``: also what deletes, inserts under a fixed key or changes keys. Behind a broken fence such rows
    collide, replication stops, and the two servers are no longer equal: a finding too easy for a control.
    """

    def __init__(
        self, history: History, draw: random.Random, number: int, of: int, *, colliding: bool = True
    ) -> None:
        self._history = history
        self._weights = {
            shape: weight for shape, weight in _WEIGHTS.items() if colliding or shape not in _COLLIDING
        }
        self._draw = draw
        self._tokens = [[token, key] for token, key in tokens() if token % of == number]

    def draw(self) -> Write:
        """The next write, by weight."""
        return self._draw.choices(list(self._weights), list(self._weights.values()))[0](self)

    def for_router(self) -> Write:
        """The next write that is one transaction: a router sends BEGIN and COMMIT itself."""
        return self._draw.choice((Shapes.add, Shapes.read_modify_write, Shapes.event, Shapes.savepoints))(
            self
        )

    def add(self) -> Write:
        return self._counted("transaction", self._key(), bodies.add)

    def bare(self) -> Write:
        """Autocommit, and nobody asks first: the row guard alone."""
        return self._statement("bare statement", ask=False)

    def asked(self) -> Write:
        return self._statement("asked statement", ask=True)

    def read_modify_write(self) -> Write:
        isolation = self._draw.choice(list(Isolation))
        shape = "rmw RC" if isolation is Isolation.READ_COMMITTED else "rmw RR"
        return self._counted(
            shape, self._key(), lambda tx, key: bodies.read_modify_write(tx, key, isolation), isolation
        )

    def old_snapshot(self) -> Write:
        """REPEATABLE READ whose snapshot is older than the question who owns the key."""
        key, isolation = self._key(), Isolation.REPEATABLE_READ
        seconds = self._draw.uniform(0, 2 * OLD_SNAPSHOT_S)
        operation = self._intend(Operation("old snapshot", Subject(Kind.COUNTER, key)))

        def take_snapshot(tx: Transaction) -> None:
            tx.execute("SELECT 1")
            time.sleep(seconds)

        def do(client: Client) -> int:
            return client.run(
                key, lambda tx: bodies.read_modify_write(tx, key, isolation), isolation,
                before_asking=take_snapshot,
            )  # fmt: skip

        return Write(operation, key, do)

    def upsert(self) -> Write:
        return self._counted("on conflict", self._draw.choice(_FRESH), bodies.upsert)

    def merge(self) -> Write:
        return self._counted("merge", self._key(), bodies.merge)

    def savepoints(self) -> Write:
        op_id, undone = uuid4(), uuid4()
        return self._counted(
            "savepoints", self._key(), lambda tx, key: bodies.with_savepoints(tx, key, op_id, undone),
            op_id=op_id, events=1, undone=undone,
        )  # fmt: skip

    def event(self) -> Write:
        op_id = uuid4()
        return self._uncounted("insert", op_id, 1, lambda tx, key: bodies.event(tx, key, op_id))

    def copy(self) -> Write:
        op_id = uuid4()
        return self._uncounted(
            "copy", op_id, COPIED_ROWS, lambda tx, key: bodies.copy(tx, key, op_id, COPIED_ROWS)
        )

    def family(self) -> Write:
        return self._counted("cascade", self._draw.choice(_FAMILIES), bodies.renew_family, kind=Kind.FAMILY)

    def move(self) -> Write:
        """A key-changing update. While it is under way nobody else moves that token."""
        if not self._tokens:
            return self.add()
        mine = self._draw.choice(self._tokens)
        token, key = mine
        to = self._draw.choice([other for other in token_keys(bucket_of(key)) if other != key])
        operation = self._intend(Operation("key change", Subject(Kind.TOKEN, token), place=to))

        def do(client: Client) -> int:
            try:
                moves = client.run(key, lambda tx: bodies.move(tx, token, key, to))
            except UnknownCommitOutcome:
                self._tokens.remove(mine)  # nobody knows where it stands
                raise
            mine[1] = to
            return moves

        return Write(operation, key, do)

    def hold(self, seconds: float) -> Write:
        """Not drawn by weight: each delays every flip."""
        return self._counted("long hold", self._key(), lambda tx, key: bodies.hold(tx, key, seconds))

    def _key(self) -> int:
        return self._draw.choice(_HOT if self._draw.random() < HOT_SHARE else _MANY)

    def _intend(self, operation: Operation) -> Operation:
        return self._history.intend(operation)

    def _counted(
        self,
        shape: str,
        key: int,
        body: Callable[[Transaction, int], int],
        isolation: Isolation = Isolation.READ_COMMITTED,
        kind: Kind = Kind.COUNTER,
        **events: Any,
    ) -> Write:
        operation = self._intend(Operation(shape, Subject(kind, key), **events))
        return Write(
            operation, key, lambda client: client.run(key, lambda tx: body(tx, key), isolation),
            lambda tx: body(tx, key), isolation,
        )  # fmt: skip

    def _uncounted(
        self, shape: str, op_id: UUID, rows: int, body: Callable[[Transaction, int], None]
    ) -> Write:
        key = self._key()
        operation = self._intend(Operation(shape, op_id=op_id, events=rows))
        return Write(
            operation, key, lambda client: client.run(key, lambda tx: body(tx, key)), lambda tx: body(tx, key)
        )

    def _statement(self, shape: str, *, ask: bool) -> Write:
        key = self._key()
        operation = self._intend(Operation(shape, Subject(Kind.COUNTER, key)))

        def do(client: Client) -> int:
            rows = client.statement(key, bodies.ADD, (key,), ask=ask)
            if len(rows) != 1:
                raise bodies.RowMissing(f"{len(rows)} rows for counter {key}")
            return int(rows[0][0])

        return Write(operation, key, do)


_WEIGHTS: dict[Callable[[Shapes], Write], int] = {
    Shapes.add: 10,
    Shapes.bare: 12,
    Shapes.asked: 12,
    Shapes.read_modify_write: 24,
    Shapes.old_snapshot: 3,
    Shapes.upsert: 6,
    Shapes.merge: 5,
    Shapes.savepoints: 6,
    Shapes.event: 10,
    Shapes.copy: 3,
    Shapes.family: 5,
    Shapes.move: 4,
}

_COLLIDING = (Shapes.upsert, Shapes.family, Shapes.move)
