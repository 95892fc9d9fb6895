"""Shadow reads: the same read on the shard that does not own the key, compared off the request path.

A difference is not yet a finding: the other side may lag behind. So it is looked at again, with a marker between the
two sides: owner, marker on the owner, wait until it was applied on the other side, other side, owner. The other side
then has all that the owner had at the first of its two reads. If it equals one of them, it was `lag`. If the owner's
two reads agree and the other side has something else, only rows that went away and came back meanwhile could explain
it: so it has to be found again, and again, after pauses; then it is a `mismatch`. Replication that is late never is
one, however late: the other side is not read before its marker is there.

What this cannot judge: a query whose answer is the server's own (``ctid``, LIMIT without ORDER BY).
"""

from __future__ import annotations

import heapq
import logging
import queue
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from time import monotonic, perf_counter
from uuid import UUID

import psycopg

from foreshard.router.failures import Failure, classify
from foreshard.router.opening import Opening
from foreshard.router.pool import Addresses
from foreshard.router.shadow_comparison import Rows, difference, same
from foreshard.router.shadow_counts import KEPT_DIFFERENCES, ShadowCounts, ShadowSink
from foreshard.router.shadow_sides import ShadowSides, in_words
from foreshard.router.telemetry import ShadowOutcome, Telemetry
from foreshard.router.transaction import Parameters, Query
from foreshard.topology.routing_map import Redirection

log = logging.getLogger(__name__)

QUEUE_LENGTH = 64
"""What waits for long differs for no other reason: the owner's rows have changed since."""

_SUSPECTS = 64
"""Differences that are looked at again at one time; with more, reads wait in the queue, and are dropped behind it."""

_FIRST_POLL_S = 0.003
_LAST_POLL_S = 1.0
_MARKER_S = 10.0
_FIRST_REST_S = 0.05
_LAST_REST_S = 1.0
_FINDINGS = 3
_ROUNDS = 12
_FLUSH_S = 2.0
_IDLE_S = 60.0

_TOLD = {
    "matches": ShadowOutcome.MATCH,
    "lags": ShadowOutcome.LAG,
    "mismatches": ShadowOutcome.MISMATCH,
    "unsettled": ShadowOutcome.UNSETTLED,
    "failures": ShadowOutcome.FAILURE,
    "dropped": ShadowOutcome.DROPPED,
}


@dataclass(frozen=True)
class ShadowRead:
    """One served read that is to be repeated on ``other``; ``rows`` is what ``owner`` gave, after ``seconds``."""

    migration: int
    owner: str
    other: str
    opening: Opening
    query: Query
    parameters: Parameters
    rows: Rows
    seconds: float
    ordered: bool


@dataclass
class _Suspect:
    """A difference that is being looked at again."""

    read: ShadowRead
    owner: str
    other: str
    first: Rows | None
    """What the other side had at first, until it was held against what the owner has by then."""
    rounds: int = 0
    findings: int = 0
    rest_s: float = _FIRST_REST_S
    before: Rows = field(default_factory=list)
    marker: UUID | None = None
    """Placed after the owner was read: the other side is waited for."""
    marker_until: float = 0.0
    poll_s: float = 0.0


class ShadowReader:
    """One daemon thread that repeats reads, behind a bounded queue. It starts with the first read.

    ``shards`` gives the shadow role's connection string of a shard by name: one connection to each, never the
    application's. Counts are flushed to ``sink`` every two seconds.
    """

    def __init__(
        self,
        sink: ShadowSink,
        shards: Addresses,
        application: str = "foreshard-shadow",
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._sink = sink
        self._sides = ShadowSides(shards, application)
        self._clock = clock
        self._queue: queue.Queue[ShadowRead | None] = queue.Queue(QUEUE_LENGTH)
        self._suspects: list[tuple[float, int, _Suspect]] = []
        self._order = count()
        self._lock = threading.Lock()
        self._counts: dict[int, ShadowCounts] = {}
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self.telemetry: Telemetry | None = None
        """What the router counts; each read is told there too."""

    def consider(
        self,
        redirection: Redirection,
        opening: Opening,
        query: Query,
        parameters: Parameters,
        rows: Rows,
        seconds: float,
        *,
        ordered: bool,
    ) -> None:
        """Offer a read that was served, if the draw falls on it: ``redirection.shadow_percent`` in a hundred."""
        route = opening.route
        if route.shadow is None or random.uniform(0, 100) >= redirection.shadow_percent:
            return
        # A copy: the list is the application's.
        served = list(rows)
        self.offer(
            ShadowRead(
                redirection.migration, route.shard, route.shadow, opening, query, parameters, served, seconds, ordered
            )
        )  # fmt: skip

    def offer(self, read: ShadowRead) -> None:
        """Take the read up, or count it as dropped. Never blocks."""
        try:
            self._queue.put_nowait(read)
        except queue.Full:
            self._add(read.migration, dropped=1)
            return
        if self._thread is None:
            with self._lock:
                if self._thread is None and not self._closing.is_set():
                    self._thread = threading.Thread(target=self._work, name="foreshard-shadow", daemon=True)
                    self._thread.start()

    def close(self) -> None:
        """Stop: what is still queued or suspected is forgotten, what was counted is flushed."""
        with self._lock:
            self._closing.set()
            thread = self._thread
        if thread is None:
            return
        with suppress(queue.Full):  # then the thread is busy, and sees the flag after the present read
            self._queue.put_nowait(None)
        thread.join(timeout=10)

    def _work(self) -> None:
        next_flush = self._clock() + _FLUSH_S
        last_read = self._clock()
        while not self._closing.is_set():
            due = min([next_flush, *(at for at, _, _ in self._suspects[:1])])
            read = self._next(max(0.0, due - self._clock()))
            if read is not None:
                last_read = self._clock()
                self._guarded(read, partial(self._first, read))
            while self._suspects and self._suspects[0][0] <= self._clock() and not self._closing.is_set():
                suspect = heapq.heappop(self._suspects)[2]
                self._guarded(suspect.read, partial(self._again, suspect))
            if self._clock() >= next_flush:
                self._flush()
                next_flush = self._clock() + _FLUSH_S
                if self._clock() - last_read > _IDLE_S and not self._suspects:
                    self._sides.close()
        self._sides.close()
        self._flush()

    def _next(self, wait_s: float) -> ShadowRead | None:
        if len(self._suspects) >= _SUSPECTS:
            self._closing.wait(wait_s)
            return None
        with suppress(queue.Empty):
            return self._queue.get(timeout=wait_s) if wait_s else self._queue.get_nowait()
        return None

    def _guarded(self, read: ShadowRead, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:
            # Its text may hold values of rows: not logged.
            what = f"{type(error).__name__} {getattr(error, 'sqlstate', None) or ''}".strip()
            level = logging.INFO if isinstance(error, psycopg.Error) else logging.WARNING
            log.log(level, "Shadow read of migration %d failed: %s", read.migration, what)
            self._end(read, failures=1)

    def _first(self, read: ShadowRead) -> None:
        begun = perf_counter()
        other = self._sides.read(read.other, read.opening, read.query, read.parameters, as_owner=False)
        seconds = perf_counter() - begun
        with self._lock:
            counts = self._of(read.migration)
            counts.owner.add(read.seconds)
            counts.other.add(seconds)
        if self.telemetry is not None:
            self.telemetry.shadow_latency(read.seconds, seconds)
        if same(read.rows, other, ordered=read.ordered):
            self._end(read, matches=1)
        else:
            self._put(_Suspect(read, read.owner, read.other, other), 0.0)

    def _again(self, suspect: _Suspect) -> None:
        """One step: begin a round, or see whether the other side has come as far and judge."""
        try:
            if suspect.marker is None:
                self._begin_round(suspect)
            else:
                self._await_marker(suspect, suspect.marker)
        except psycopg.Error as error:
            failure = classify(error)
            if failure not in (Failure.NOT_OWNER, Failure.CONFLICT):
                raise
            if (
                failure is Failure.NOT_OWNER
            ):  # it moved, or is moving: where it did, the other side is the owner now
                suspect.first = None
                suspect.owner, suspect.other = suspect.other, suspect.owner
            self._rest(suspect)

    def _begin_round(self, suspect: _Suspect) -> None:
        read = suspect.read
        suspect.before = self._read_owner(suspect)
        first, suspect.first = suspect.first, None
        if first is not None and same(first, suspect.before, ordered=read.ordered):
            self._end(read, lags=1)  # the other side had it sooner than this thread: no marker is needed
            return
        suspect.marker = self._sides.place_marker(suspect.owner, read.opening.route.bucket, read.migration)
        if suspect.marker is None:  # the migration has ended here
            self._end(read, unsettled=1)
            return
        suspect.marker_until = self._clock() + _MARKER_S
        suspect.poll_s = _FIRST_POLL_S
        self._put(suspect, _FIRST_POLL_S)

    def _await_marker(self, suspect: _Suspect, marker: UUID) -> None:
        read = suspect.read
        there = self._sides.has_marker(suspect.other, read.opening.route.bucket, read.migration, marker)
        if there:
            self._judge(suspect)
        elif there is None:
            self._end(read, unsettled=1)
        elif self._clock() >= suspect.marker_until:
            self._end(read, lags=1)
        else:
            suspect.poll_s = min(_LAST_POLL_S, suspect.poll_s * 1.5)
            self._put(suspect, suspect.poll_s)

    def _judge(self, suspect: _Suspect) -> None:
        read, ordered = suspect.read, suspect.read.ordered
        other = self._sides.read(suspect.other, read.opening, read.query, read.parameters, as_owner=False)
        after = self._read_owner(suspect)
        if same(other, after, ordered=ordered) or same(other, suspect.before, ordered=ordered):
            self._end(read, lags=1)
            return
        if same(suspect.before, after, ordered=ordered):
            suspect.findings += 1
            if suspect.findings == _FINDINGS:
                self._report(suspect, difference(after, other, ordered=ordered))
                return
        self._rest(suspect)

    def _read_owner(self, suspect: _Suspect) -> Rows:
        read = suspect.read
        return self._sides.read(suspect.owner, read.opening, read.query, read.parameters, as_owner=True)

    def _rest(self, suspect: _Suspect) -> None:
        """Another round after a pause; in the end it is unsettled."""
        suspect.rounds += 1
        if suspect.rounds == _ROUNDS:
            self._end(suspect.read, unsettled=1)
            return
        suspect.marker, suspect.before = None, []
        # At random, so that no rhythm of the application's can keep step with the rounds.
        self._put(suspect, suspect.rest_s * random.uniform(0.5, 1.5))
        suspect.rest_s = min(_LAST_REST_S, suspect.rest_s * 2)

    def _report(self, suspect: _Suspect, what: str) -> None:
        read = suspect.read
        told = f"{read.opening.route.bucket}, owner {suspect.owner}, {what}: {in_words(read.query)}"
        log.warning("Shadow read of migration %d differs: %s", read.migration, told)
        with self._lock:
            kept = self._of(read.migration).differences
            if len(kept) < KEPT_DIFFERENCES:
                kept.append(told)
        self._end(read, mismatches=1)

    def _put(self, suspect: _Suspect, wait_s: float) -> None:
        heapq.heappush(self._suspects, (self._clock() + wait_s, next(self._order), suspect))

    def _end(self, read: ShadowRead, **outcome: int) -> None:
        self._add(read.migration, reads=1, **outcome)

    def _add(self, migration: int, **outcome: int) -> None:
        with self._lock:
            counts = self._of(migration)
            for name, more in outcome.items():
                setattr(counts, name, getattr(counts, name) + more)
        if self.telemetry is not None:
            for name in outcome.keys() & _TOLD.keys():
                self.telemetry.shadow_read(_TOLD[name])

    def _of(self, migration: int) -> ShadowCounts:
        return self._counts.setdefault(migration, ShadowCounts(migration))

    def _flush(self) -> None:
        with self._lock:
            ready, self._counts = self._counts, {}
        for counts in ready.values():
            try:
                self._sink(counts)
            except Exception as error:  # the store may be away: what was counted must not be lost with it
                log.info("Shadow counts kept for later: %s", error)
                with self._lock:
                    counts.merge(self._of(counts.migration))
                    self._counts[counts.migration] = counts
