"""Writers in a process of their own, which sends its history when it is told to stop."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from tests.stress import reading
from tests.stress.history import History
from tests.stress.stress_fleet import StressFleet
from tests.stress.writers import Load, Writers

STATUS_EVERY_S = 0.2
PATIENCE_S = 120.0
"""A write gives up after `client.DEADLINE_S`; the rest is for sending the history."""


@dataclass(frozen=True)
class Status:
    """How far the writers are. ``contradictions``: what is known to be wrong before anything was compared."""

    acknowledged: int = 0
    refused: int = 0
    unknown: int = 0
    reads: int = 0
    contradictions: int = 0
    troubles: int = 0

    def __str__(self) -> str:
        return (
            f"{self.acknowledged} writes acknowledged, {self.refused} refused, {self.unknown} unknown,"
            f" {self.reads} reads, {self.contradictions} contradictions"
        )


class WriterProcess:
    """The writers as this process sees them."""

    def __init__(self, dsns: Mapping[str, str], control_dsn: str, load: Load, seed: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_work,
            args=(theirs, dict(dsns), control_dsn, load, seed),
            name="stress-writers",
            daemon=True,
        )
        # Ctrl-C goes to all processes of a terminal, but it is ours alone: the writers stop when the pipe is closed.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        self._process.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        theirs.close()
        self._status = Status()
        self._history: History | None = None

    def status(self) -> Status:
        """As they told last, a fifth of a second ago. Raises ``EOFError`` if they died."""
        while self._history is None and self._pipe.poll():
            self._take(self._pipe.recv())
        return self._status

    def stop(self) -> History:
        """End them and take over what they were told. May be called again."""
        if self._history is None:
            self._pipe.send("stop")
        while self._history is None:
            if not self._pipe.poll(PATIENCE_S):
                raise TimeoutError(f"The writers did not stop in {PATIENCE_S:g} s.")
            self._take(self._pipe.recv())
        self._process.join()
        return self._history

    def end(self) -> None:
        """Whatever happens, nothing of them stays behind."""
        self._pipe.close()  # they stop when nobody listens any more
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _take(self, message: Status | History) -> None:
        if isinstance(message, History):
            self._history = message
        else:
            self._status = message


@contextmanager
def writing(fleet: StressFleet, load: Load, seed: int) -> Iterator[WriterProcess]:
    """Writers at work on a new fleet until `WriterProcess.stop`, at the latest until the end of the block."""
    dsns = {shard.name: shard.application_dsn for shard in (fleet.pair.source, fleet.pair.target)}
    process = WriterProcess(dsns, fleet.settings.control.dsn, load, seed)
    try:
        yield process
    finally:
        process.end()


def wait_for_writes(writers: WriterProcess, timeout_s: float = 60) -> None:
    """Until they have begun, so that no flip is wasted on an idle fleet."""
    deadline = time.monotonic() + timeout_s
    while not writers.status().acknowledged:
        if time.monotonic() > deadline:
            raise TimeoutError(f"No write was acknowledged in {timeout_s:g} s.")
        time.sleep(0.05)


def _work(pipe: Connection, dsns: Mapping[str, str], control_dsn: str, load: Load, seed: int) -> None:
    logging.getLogger("psycopg").setLevel(logging.ERROR)  # a refusal within a pipeline is no news
    sys.setswitchinterval(0.001)
    history = History(reading.starts())
    writers = Writers(dsns, control_dsn, history, load, seed)
    writers.start()
    answer: Any = None
    try:
        while not pipe.poll(STATUS_EVERY_S):
            pipe.send(_status(history))
        pipe.recv()
        answer = history
    except (EOFError, OSError):
        pass  # the parent has gone
    finally:
        writers.stop()
    if answer is not None:
        pipe.send(answer)


def _status(history: History) -> Status:
    totals = history.totals()
    return Status(
        totals["acknowledged"],
        totals["refused"],
        totals["unknown"],
        history.reads,
        history.contradictions,
        len(history.troubles),
    )
