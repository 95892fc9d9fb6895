"""Writers of the benchmarks, in a process of their own: their work must not slow down what is measured beside it."""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from typing import Any

import psycopg
from psycopg import sql

UPDATE = sql.SQL("UPDATE {} SET cycles = cycles + 1 WHERE tailnum = %s")
REFUSED = frozenset({"FS001", "FS002", "40001", "55P03"})
BACKOFF_S = 0.0005


@dataclass(frozen=True)
class Load:
    """What the writers do. ``pause_ms`` None: single autocommitted statements. Else a transaction of two updates
    that are that far apart, after `assert_owner`, which makes it hold the fence. ``writes_per_s`` for all together.
    """

    clients: int
    writes_per_s: float
    pause_ms: float | None


@dataclass
class Written:
    """What became of it: latencies in ms from the first attempt to the acknowledgement, and how long it took."""

    seconds: float = 0.0
    refusals: int = 0
    latencies_ms: list[float] = field(default_factory=list)

    def per_second(self, load: Load) -> float:
        """Acknowledged writes per second."""
        return len(self.latencies_ms) * (1 if load.pause_ms is None else 2) / self.seconds


@contextmanager
def writing(load: Load, dsns: tuple[str, str], keys: list[tuple[str, str]]) -> Iterator[Written]:
    """Write until the block ends; the result is complete then. ``dsns``: source, target; ``keys``: (bucket, key)."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(there, load, dsns, keys))
    process.start()
    there.close()
    written = Written()
    try:
        here.recv()  # every client is connected
        yield written
    finally:
        here.send(None)
        done = here.recv()
        process.join()
        written.seconds, written.refusals, written.latencies_ms = (
            done.seconds,
            done.refusals,
            done.latencies_ms,
        )


def _run(pipe: Pipe[Any, Any], load: Load, dsns: tuple[str, str], keys: list[tuple[str, str]]) -> None:
    stop = threading.Event()
    clients = [_Client(number, load, dsns, keys, stop) for number in range(load.clients)]
    for client in clients:
        client.start()
    pipe.send(None)
    started = time.monotonic()
    pipe.recv()
    stop.set()
    for client in clients:
        client.join()
    total = Written(time.monotonic() - started)
    for client in clients:
        total.refusals += client.refusals
        total.latencies_ms += client.latencies_ms
    pipe.send(total)


class _Client(threading.Thread):
    """One client: at its own pace, at the side that it believes to own the key, at the other one when refused."""

    def __init__(
        self,
        number: int,
        load: Load,
        dsns: tuple[str, str],
        keys: list[tuple[str, str]],
        stop: threading.Event,
    ) -> None:
        super().__init__(name=f"client-{number}")
        self.latencies_ms: list[float] = []
        self.refusals = 0
        # Keys of its own: else long transactions wait for each other's rows, and a flip waits for all of them.
        self._load, self._keys, self._stop_writing = load, keys[number :: load.clients], stop
        self._draw = random.Random(number)
        self._connections = [psycopg.connect(dsn, autocommit=True) for dsn in dsns]
        self._believed: dict[str, int] = {}

    def run(self) -> None:
        """Write until told to stop."""
        writes = 1 if self._load.pause_ms is None else 2
        every = writes * self._load.clients / self._load.writes_per_s
        due = time.monotonic() + self._draw.random() * every
        while not self._stop_writing.is_set():
            if (early := due - time.monotonic()) > 0:
                time.sleep(early)
            due = max(
                due + every, time.monotonic() - 10 * every
            )  # what is late is caught up with, within reason
            bucket, key = self._draw.choice(self._keys)
            started = time.perf_counter()
            self._write(bucket, key)
            self.latencies_ms.append((time.perf_counter() - started) * 1000)
        for connection in self._connections:
            connection.close()

    def _write(self, bucket: str, key: str) -> None:
        side = self._believed.get(key, 0)
        while True:
            try:
                self._attempt(self._connections[side], bucket, key)
            except psycopg.Error as refused:
                if refused.sqlstate not in REFUSED:
                    raise
                self.refusals += 1
                side = 1 - side
                time.sleep(BACKOFF_S * self._draw.random())
            else:
                self._believed[key] = side
                return

    def _attempt(self, connection: psycopg.Connection[Any], bucket: str, key: str) -> None:
        update = UPDATE.format(sql.Identifier(bucket, "aircraft"))
        if self._load.pause_ms is None:
            connection.execute(update, (key,))
            return
        with connection.transaction():
            connection.execute("SELECT foreshard.assert_owner(%s, %s::text)", (bucket, key))
            connection.execute(update, (key,))
            time.sleep(self._load.pause_ms / 1000)
            connection.execute(update, (key,))
