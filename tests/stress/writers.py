"""The writers: threads that write and read at a given rate until they are stopped, and note what they were told.

They run in a process of their own (`writer_process`): beside a dozen threads the flip would mostly wait for the
interpreter.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from time import monotonic
from uuid import UUID

import psycopg

from foreshard.control.engine import ControlDatabase
from foreshard.errors import ForeshardError, RefusedWrite, ShardUnavailable, UnknownCommitOutcome
from foreshard.fleet.ledger import State
from foreshard.router import Isolation, Transaction
from foreshard.router.fleet_router import fleet_router
from tests.stress import bodies
from tests.stress.bucket import family_keys, hot_keys
from tests.stress.client import DEADLINE_S, Client, GivenUp, Hint
from tests.stress.history import History, Kind, Subject
from tests.stress.shapes import Shapes, Write


@dataclass(frozen=True)
class Load:
    """How many threads, and how much they do altogether. ``hold_s`` and ``holds_every_s``: transactions that sit.

    ``colliding``: see `Shapes`.
    """

    direct: int = 8
    routed: int = 2
    readers: int = 1
    writes_per_s: float = 600.0
    reads_per_s: float = 60.0
    hold_s: float = 1.0
    holds_every_s: float = 25.0
    colliding: bool = True


class Writers:
    """Threads at work. ``dsns``: the application's by shard. `stop` ends them when what is under way has ended."""

    def __init__(
        self, dsns: Mapping[str, str], control_dsn: str, history: History, load: Load, seed: int
    ) -> None:
        self._history = history
        self._load = load
        self._seed = seed
        self._dsns = dsns
        self._hint = Hint()
        self._stop = threading.Event()
        self._control = ControlDatabase(control_dsn)
        self._router = fleet_router(self._control, "stress", deadline_s=DEADLINE_S)
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to write."""
        load = self._load
        writing = load.direct + load.routed
        each = load.writes_per_s / writing
        for number in range(load.direct):
            self._spawn(f"direct-{number}", self._direct, each, writing, number)
        for number in range(load.direct, writing):
            self._spawn(f"routed-{number}", self._routed, each, writing, number)
        for number in range(load.readers):
            self._spawn(f"reader-{number}", self._reader, load.reads_per_s / load.readers)
        if load.holds_every_s:
            self._spawn("holder", self._holder)

    def stop(self) -> None:
        """End all threads. May be called again."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._router.close()
        self._control.close()

    def _spawn(self, name: str, work: Callable[..., None], *arguments: object) -> None:
        def guarded() -> None:
            draw = random.Random(f"{self._seed}-{name}")
            try:
                work(draw, *arguments)
            except BaseException as error:  # a thread that dies unseen would make the proof weaker
                self._history.trouble(f"{name} died: {type(error).__name__}: {error}")

        thread = threading.Thread(target=guarded, name=name)
        self._threads.append(thread)
        thread.start()

    def _due(self, draw: random.Random, per_s: float) -> Iterator[None]:
        """Yields at random moments, so many in a second on average; one that is late does not wait."""
        due = monotonic()
        while True:
            due = max(due + draw.expovariate(per_s), monotonic() - 1.0)
            if self._stop.wait(max(0.0, due - monotonic())):
                return
            yield

    def _direct(self, draw: random.Random, per_s: float, of: int, number: int) -> None:
        shapes = Shapes(self._history, draw, number, of, colliding=self._load.colliding)
        with closing(Client(self._dsns, self._hint, self._history)) as client:
            for _ in self._due(draw, per_s):
                self._write(shapes.draw(), client)

    def _holder(self, draw: random.Random) -> None:
        """Now and then a transaction that keeps the fence."""
        shapes = Shapes(self._history, draw, number=0, of=1)
        with closing(Client(self._dsns, self._hint, self._history)) as client:
            for _ in self._due(draw, 1 / self._load.holds_every_s):
                self._write(shapes.hold(self._load.hold_s), client)

    def _write(self, write: Write, client: Client) -> None:
        client.shape = write.operation.shape
        self._settle(write, lambda: write.do(client))

    def _routed(self, draw: random.Random, per_s: float, of: int, number: int) -> None:
        shapes = Shapes(self._history, draw, number, of)
        for _ in self._due(draw, per_s):
            write = shapes.for_router()
            write.operation.shape = f"router: {write.operation.shape}"
            self._settle(write, partial(self._through_router, write))

    def _through_router(self, write: Write) -> int | None:
        assert write.body is not None  # `for_router` draws no other
        return self._router.run(write.key, write.body, isolation=write.isolation)

    def _settle(self, write: Write, do: Callable[[], int | None]) -> None:
        """Do it and note what the client was told."""
        operation = write.operation
        try:
            value = do()
        except UnknownCommitOutcome:
            self._history.settle(operation, State.UNKNOWN)
        except (GivenUp, RefusedWrite, ShardUnavailable):
            self._history.settle(operation, State.REFUSED)
        except (psycopg.Error, ForeshardError) as error:  # rolled back, but no flip explains it
            self._history.settle(operation, State.REFUSED)
            self._history.trouble(f"{operation.shape}: {type(error).__name__}: {error}")
        else:
            self._history.acknowledge(operation, value, write.key)

    def _reader(self, draw: random.Random, per_s: float) -> None:
        hot, families = hot_keys(), family_keys()
        with closing(Client(self._dsns, self._hint, self._history)) as client:
            client.shape = "read"
            for _ in self._due(draw, per_s):
                isolation = draw.choice(list(Isolation))
                try:
                    events = self._history.recent_events()
                    if events and draw.random() < 0.3:
                        self._read_event(client, *draw.choice(events), isolation)
                    elif draw.random() < 0.7:
                        subject = Subject(Kind.COUNTER, draw.choice(hot))
                        self._read_subject(client, subject, bodies.read, isolation)
                    else:
                        subject = Subject(Kind.FAMILY, draw.choice(families))
                        self._read_subject(client, subject, bodies.read_parent, isolation)
                except GivenUp:
                    self._history.retried(client.shape, "given up")
                except (psycopg.Error, ForeshardError) as error:
                    self._history.trouble(f"read: {type(error).__name__}: {error}")

    def _read_subject(
        self, client: Client, subject: Subject, body: Callable[[Transaction, int], int], isolation: Isolation
    ) -> None:
        floor = self._history.floor(subject)
        value = client.run(subject.key, lambda tx: body(tx, subject.key), isolation, read_only=True)
        self._history.saw(subject, value, floor)

    def _read_event(self, client: Client, key: int, op_id: UUID, isolation: Isolation) -> None:
        rows = client.run(key, lambda tx: bodies.count_events(tx, key, op_id), isolation, read_only=True)
        self._history.saw_events(op_id, rows)
