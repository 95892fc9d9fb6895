"""An application with a router, in a process of its own, that sends its requests at a fixed rate whatever happens."""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from typing import Any

from benchmarks.accounts import KEYS
from benchmarks.contestants import Contestant, Routed
from foreshard.control.engine import ControlDatabase
from foreshard.router.fleet_router import fleet_router

THREADS = 16
WARM_UP_S = 3.0


@dataclass(frozen=True)
class Rate:
    """Requests per second, and which share of them writes."""

    per_second: float
    write_share: float


@dataclass(frozen=True)
class Request:
    """``at``: seconds since the epoch when it was due; ``ms``: from then to its answer. ``error`` None: answered."""

    at: float
    ms: float
    writes: bool
    error: str | None


@dataclass
class Answered:
    """Every request, once the application has ended."""

    requests: list[Request] = field(default_factory=list)

    @property
    def acknowledged_writes(self) -> int:
        """How much the balances must have grown."""
        return sum(one.writes and one.error is None for one in self.requests)

    def between(self, begin: float, end: float) -> Sequence[Request]:
        """Those that were due then."""
        return [one for one in self.requests if begin <= one.at < end]


@contextmanager
def requesting(control_dsn: str, rate: Rate) -> Iterator[Answered]:
    """Send until the block ends; the result is complete then."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(there, control_dsn, rate))
    process.start()
    there.close()
    answered = Answered()
    try:
        here.recv()
        yield answered
    finally:
        here.send(None)
        answered.requests = here.recv()
        process.join()


def _run(pipe: Pipe[Any, Any], control_dsn: str, rate: Rate) -> None:
    stop = threading.Event()
    with closing(ControlDatabase(control_dsn)) as control:
        router = fleet_router(control, "bench", connections_per_shard=THREADS)
        with closing(Routed(router)) as application:
            begin = time.time() + 0.5
            clients = [_Client(number, application, rate, begin, stop) for number in range(THREADS)]
            for client in clients:
                client.start()
            time.sleep(WARM_UP_S)  # connections are open by then, and statements prepared
            pipe.send(None)
            pipe.recv()
            stop.set()
            for client in clients:
                client.join()
    pipe.send([request for client in clients for request in client.requests])


class _Client(threading.Thread):
    """Sends every sixteenth request. What is late because of the one before counts as late, from when it was due."""

    def __init__(
        self, number: int, application: Contestant, rate: Rate, begin: float, stop: threading.Event
    ) -> None:
        super().__init__(name=f"client-{number}")
        self.requests: list[Request] = []
        self._application, self._rate, self._stop_sending = application, rate, stop
        self._draw = random.Random(number)
        self._due = begin + number / rate.per_second

    def run(self) -> None:
        """Send until told to stop."""
        while True:
            if self._stop_sending.wait(max(0.0, self._due - time.time())):
                return
            writes = self._draw.random() < self._rate.write_share
            act = self._application.write if writes else self._application.read
            error = None
            try:
                act(self._draw.choice(KEYS))
            except Exception as failed:  # whatever it is: the application was not served
                error = f"{type(failed).__name__}: {failed}"
            self.requests.append(Request(self._due, (time.time() - self._due) * 1000, writes, error))
            self._due += THREADS / self._rate.per_second
