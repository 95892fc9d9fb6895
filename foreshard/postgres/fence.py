"""The fence for a look at both sides: for milliseconds nobody writes the keys that move. Writers wait, none is refused.

What is written all the time can be judged in no other way: it differs at every moment, by what is under way.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import psycopg
from psycopg import errors, sql

from foreshard.postgres.connect import Connection
from foreshard.postgres.guard import LONGEST_FENCE_WAIT_MS
from foreshard.postgres.marker import MarkerLine
from foreshard.postgres.names import FENCE_CLASS

ATTEMPTS = 20
LONGEST_SILENCE_MS = 250
"""The server itself ends a session that has the fence and says nothing for so long, beyond the time that the other
side may take to get it: its runner may be stopped, or cut off."""

MARKER_PATIENCE_S = 0.15
"""Longer than a marker takes where both sides are level. If they are not, the fence is given back at once."""


@dataclass(frozen=True)
class Paused:
    """``held``: the look was taken with everybody waiting. ``ms``: how long writers may have waited in all attempts."""

    held: bool
    ms: float
    attempts: int


Fence: TypeAlias = Callable[[Callable[[], None]], Paused]
"""Calls its argument (more than once, if need be) at a moment when nobody writes and both sides hold the same."""


@dataclass(frozen=True)
class FencedSide:
    """``connect``: a session of its own on that side; ``markers``: from there to the other side."""

    connect: Callable[[], AbstractContextManager[Connection]]
    markers: MarkerLine


class SharedFence:
    """The fence of one migration, on the sides that are written.

    A fence lasts from the first session's request for the lock until both transactions end: with them, whatever ends
    them, the locks go. ``patience_s``: for the markers that are drained before it, while nobody waits.
    """

    def __init__(
        self, number: int, sides: Sequence[FencedSide], *, lock_timeout_ms: int, patience_s: float
    ) -> None:
        self._number, self._sides = number, sides
        self._lock_timeout_ms, self._patience_s = lock_timeout_ms, patience_s

    def __call__(self, look: Callable[[], None]) -> Paused:
        """Take the look. Not held after `ATTEMPTS`: long transactions hold the fence, or a stream is behind.

        Raises:
            FlipFailed: a stream does not apply.
            ShardUnavailable: a shard does not answer.
        """
        paused_ms = 0.0
        for attempt in range(1, ATTEMPTS + 1):
            with ExitStack() as sessions:
                opened = [sessions.enter_context(side.connect()) for side in self._sides]
                for side in self._sides:
                    side.markers.drain(self._patience_s)
                started = time.perf_counter()
                held = self._attempt(opened, attempt, look)
                paused_ms += (time.perf_counter() - started) * 1000
            if held:
                return Paused(True, paused_ms, attempt)
            time.sleep(random.uniform(0.5, 1.5) * self._lock_timeout_ms / 1000)
        return Paused(False, paused_ms, ATTEMPTS)

    def _attempt(self, sessions: Sequence[Connection], attempt: int, look: Callable[[], None]) -> bool:
        wait_ms = min(self._lock_timeout_ms * 2 ** ((attempt - 1) // 2), LONGEST_FENCE_WAIT_MS)
        try:
            with ExitStack() as transactions:
                for session in sessions:
                    transactions.enter_context(_patient(session, wait_ms))
                self._lock_all(sessions)
                sent = [(side.markers, side.markers.send()) for side in self._sides]
                if not all(markers.applied(marker, MARKER_PATIENCE_S) for markers, marker in sent):
                    return False
                look()
        except errors.LockNotAvailable:
            return False
        except psycopg.Error:
            if any(session.broken for session in sessions):
                return False  # the server ended it: what was seen was perhaps not fenced
            raise
        return True  # both transactions have ended well, so both locks stood until now

    def _lock_all(self, sessions: Sequence[Connection]) -> None:
        """At once: what one side waits for must not be added to what the other side's writers wait."""

        def lock(session: Connection) -> None:
            session.execute("SELECT pg_advisory_xact_lock(%s, %s)", (FENCE_CLASS, self._number))

        with ThreadPoolExecutor(len(sessions), thread_name_prefix="foreshard-fence") as threads:
            list(threads.map(lock, sessions))


@contextmanager
def _patient(session: Connection, wait_ms: int) -> Iterator[None]:
    """A transaction that waits so long for a lock, and that the server ends if nothing more is heard of it."""
    with session.transaction():
        session.execute(
            sql.SQL("SET LOCAL lock_timeout = {}; SET LOCAL idle_in_transaction_session_timeout = {}").format(
                sql.Literal(wait_ms), sql.Literal(wait_ms + LONGEST_SILENCE_MS)
            )
        )
        yield
