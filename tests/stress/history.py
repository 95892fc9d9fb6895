"""What the clients were told: the only witness of a lost or doubled write, since a broken fence leaves equal copies.

The semantics are those of `foreshard.fleet.ledger` (an intent before the transaction, an outcome after it, an intent
without outcome is unknown), kept in memory: here the writers are never killed.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from foreshard.fleet.ledger import State


class Kind(StrEnum):
    """What counts upwards by one with each write."""

    COUNTER = "counter"
    FAMILY = "family"
    TOKEN = "token"


class Subject(NamedTuple):
    """One thing that counts: a counter or family by its key, a token by its id."""

    kind: Kind
    key: int

    def __str__(self) -> str:
        return f"{self.kind} {self.key}"


@dataclass(slots=True)
class Operation:
    """One write. ``floor``: the newest value of ``subject`` that anybody was told of before the write began.

    ``events`` rows carry ``op_id``; no row may ever carry ``undone`` (rolled back to a savepoint). ``place``: the
    key at which the write leaves a token.
    """

    shape: str
    subject: Subject | None = None
    floor: int = 0
    op_id: UUID | None = None
    events: int = 0
    undone: UUID | None = None
    place: int | None = None
    state: State = State.UNKNOWN
    value: int | None = None


@dataclass
class History:
    """Operations and reads of all clients. Thread-safe.

    ``starts``: where subjects stood before the first write; others are not there yet, which counts as 0.
    ``stale``: reads that were older than something acknowledged before them. ``troubles``: errors without excuse.
    """

    starts: Mapping[Subject, int]
    operations: list[Operation] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    reads: int = 0
    overwritten: int = 0
    """Acknowledged values that had been acknowledged before: a lost write, seen as it happens."""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._floors = dict(self.starts)
        self._told: dict[Subject, set[int]] = {}
        self._counts: dict[str, Counter[str]] = {}
        self._events: deque[tuple[int, UUID]] = deque(maxlen=500)

    def __getstate__(self) -> dict[str, Any]:
        """Travels from the writers' process to ours; a lock does not."""
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def floor(self, subject: Subject) -> int:
        """The newest value that was acknowledged or read; a later read must not be older."""
        with self._lock:
            return self._floors.get(subject, 0)

    def intend(self, operation: Operation) -> Operation:
        """Note a write before it begins."""
        with self._lock:
            if operation.subject is not None:
                operation.floor = self._floors.get(operation.subject, 0)
            self.operations.append(operation)
        return operation

    def acknowledge(self, operation: Operation, value: int | None, key: int) -> None:
        """Note that its commit was answered; ``value``: what it left in its subject. ``key``: where events stand."""
        with self._lock:
            operation.state, operation.value = State.ACKNOWLEDGED, value
            self._count(operation.shape, "acknowledged")
            if operation.op_id is not None:
                self._events.append((key, operation.op_id))
            if operation.subject is None or value is None:
                return
            told = self._told.setdefault(operation.subject, set())
            self.overwritten += value in told
            told.add(value)
            if value <= operation.floor:
                self.stale.append(
                    f"{operation.shape} left {operation.subject} at {value}; {operation.floor} was known before"
                )
            self._raise_floor(operation.subject, value)

    def settle(self, operation: Operation, state: State) -> None:
        """Note that it was refused or that nobody knows."""
        with self._lock:
            operation.state = state
            self._count(operation.shape, state.value)

    def saw(self, subject: Subject, value: int, floor: int) -> None:
        """Note a read of a subject that began when ``floor`` was known."""
        with self._lock:
            self.reads += 1
            if value < floor:
                self.stale.append(f"a read of {subject} gave {value}; {floor} was known before")
            self._raise_floor(subject, value)

    def recent_events(self) -> list[tuple[int, UUID]]:
        """(key, op_id) of events that were acknowledged lately."""
        with self._lock:
            return list(self._events)

    def saw_events(self, op_id: UUID, rows: int) -> None:
        """Note a read of an acknowledged event."""
        with self._lock:
            self.reads += 1
            if rows == 0:
                self.stale.append(f"a read did not find event {op_id}, which was acknowledged before")

    def retried(self, shape: str, reason: str) -> None:
        """Note an attempt of a write that was turned away; ``reason`` is a SQLSTATE or a word."""
        with self._lock:
            self._count(shape, f"retry {reason}")

    def trouble(self, text: str) -> None:
        """Note an error that should not have been."""
        with self._lock:
            self.troubles.append(text)

    @property
    def contradictions(self) -> int:
        """What is known to be wrong before anything was compared with a server."""
        return self.overwritten + len(self.stale)

    def totals(self) -> Counter[str]:
        """Counts of outcomes and retries over all shapes."""
        with self._lock:
            return sum(self._counts.values(), Counter())

    def by_shape(self) -> dict[str, dict[str, int]]:
        """Counts of outcomes and retries by shape."""
        with self._lock:
            return {shape: dict(sorted(counts.items())) for shape, counts in sorted(self._counts.items())}

    def _count(self, shape: str, what: str) -> None:
        self._counts.setdefault(shape, Counter())[what] += 1

    def _raise_floor(self, subject: Subject, value: int) -> None:
        if value > self._floors.get(subject, 0):
            self._floors[subject] = value
