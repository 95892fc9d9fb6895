"""Shadow reads: the same read on the shard that does not own the key, compared off the request path.

A difference is not yet a finding: the other side may lag behind. It is read again on both sides, at growing
intervals. If the difference vanishes it was `lag`. If it is still there after ten seconds, and the owner gave
the same answer before and after the other side was read, it is a `mismatch`. What this cannot tell: replication
more than ten seconds behind looks like a mismatch, and a row that never stands still looks like lag.
"""

from __future__ import annotations

import heapq
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from time import monotonic
from typing import Any, TypeAlias

import psycopg

from foreshard.router.latency import LatencyHistogram

log = logging.getLogger(__name__)

Rows: TypeAlias = Sequence[tuple[Any, ...]]

QUEUE_LENGTH = 256
_FIRST_RETRY_S = 0.05
_LAST_RETRY_S = 1.0
_MISMATCH_AFTER_S = 10.0
_FLUSH_S = 2.0


@dataclass
class ShadowCounts:
    """What one router saw of one migration since the last flush.

    Every read that was taken up is in ``reads`` once it ends, and in exactly one of ``matches``, ``lags``,
    ``mismatches``, ``failures`` (a side could not be read). ``dropped`` were not taken up: queue full.
    """

    migration: int
    reads: int = 0
    matches: int = 0
    lags: int = 0
    mismatches: int = 0
    failures: int = 0
    dropped: int = 0
    owner: LatencyHistogram = field(default_factory=LatencyHistogram)
    other: LatencyHistogram = field(default_factory=LatencyHistogram)

    def merge(self, later: ShadowCounts) -> None:
        """Add what was counted later."""
        for name in ("reads", "matches", "lags", "mismatches", "failures", "dropped"):
            setattr(self, name, getattr(self, name) + getattr(later, name))
        self.owner.merge(later.owner)
        self.other.merge(later.other)


ShadowSink: TypeAlias = Callable[[ShadowCounts], None]
"""Takes what was counted since the last call. If it raises, the counts are kept and come again."""


@dataclass(frozen=True)
class ShadowRead:
    """One served read that is to be repeated.

    ``read_owner`` and ``read_other`` repeat it READ ONLY; ``rows`` is what was served, after ``seconds``.
    """

    migration: int
    what: str
    rows: Rows
    seconds: float
    ordered: bool
    read_owner: Callable[[], Rows]
    read_other: Callable[[], tuple[Rows, float]]


@dataclass
class _Suspect:
    read: ShadowRead
    since: float
    wait_s: float = _FIRST_RETRY_S


class ShadowReader:
    """One daemon thread that repeats reads, behind a bounded queue. It starts with the first read.

    Counts are flushed to ``sink`` every two seconds.
    """

    def __init__(self, sink: ShadowSink, clock: Callable[[], float] = monotonic) -> None:
        self._sink = sink
        self._clock = clock
        self._queue: queue.Queue[ShadowRead | None] = queue.Queue(QUEUE_LENGTH)
        self._suspects: list[tuple[float, int, _Suspect]] = []
        self._order = count()
        self._lock = threading.Lock()
        self._counts: dict[int, ShadowCounts] = {}
        self._thread: threading.Thread | None = None
        self._closing = False

    def offer(self, read: ShadowRead) -> None:
        """Take the read up, or count it as dropped. Never blocks."""
        try:
            self._queue.put_nowait(read)
        except queue.Full:
            self._add(read.migration, dropped=1)
            return
        if self._thread is None:
            with self._lock:
                if self._thread is None and not self._closing:
                    self._thread = threading.Thread(target=self._work, name="foreshard-shadow", daemon=True)
                    self._thread.start()

    def close(self) -> None:
        """Stop: what is still queued or suspected is forgotten, what was counted is flushed."""
        with self._lock:
            self._closing = True
            thread = self._thread
        if thread is None:
            return
        with suppress(queue.Full):  # then the thread is busy, and sees the flag after the present read
            self._queue.put_nowait(None)
        thread.join(timeout=10)

    def _work(self) -> None:
        next_flush = self._clock() + _FLUSH_S
        while not self._closing:
            due = min([next_flush, *(at for at, _, _ in self._suspects[:1])])
            try:
                read = self._queue.get(timeout=max(0.0, due - self._clock()))
            except queue.Empty:
                read = None
            if read is not None:
                self._first(read)
            while self._suspects and self._suspects[0][0] <= self._clock() and not self._closing:
                self._again(heapq.heappop(self._suspects)[2])
            if self._clock() >= next_flush:
                self._flush()
                next_flush = self._clock() + _FLUSH_S
        self._flush()

    def _first(self, read: ShadowRead) -> None:
        other = self._other(read)
        if other is None:
            return
        if same(read.rows, other, ordered=read.ordered):
            self._end(read, matches=1)
        else:
            self._suspect(_Suspect(read, self._clock()))

    def _again(self, suspect: _Suspect) -> None:
        read = suspect.read
        try:
            before = read.read_owner()
            other, _ = read.read_other()
            after = read.read_owner()
        except Exception as error:
            self._failed(read, error)
            return
        ordered = read.ordered
        if same(other, after, ordered=ordered) or same(other, before, ordered=ordered):
            self._end(read, lags=1)
        elif self._clock() - suspect.since < _MISMATCH_AFTER_S:
            suspect.wait_s = min(_LAST_RETRY_S, suspect.wait_s * 2)
            self._suspect(suspect)
        elif same(before, after, ordered=ordered):
            log.warning("Shadow read of migration %d differs: %s", read.migration, read.what)
            self._end(read, mismatches=1)
        else:
            self._end(read, lags=1)

    def _suspect(self, suspect: _Suspect) -> None:
        heapq.heappush(self._suspects, (self._clock() + suspect.wait_s, next(self._order), suspect))

    def _other(self, read: ShadowRead) -> Rows | None:
        try:
            rows, seconds = read.read_other()
        except Exception as error:
            self._failed(read, error)
            return None
        with self._lock:
            counts = self._of(read.migration)
            counts.owner.add(read.seconds)
            counts.other.add(seconds)
        return rows

    def _failed(self, read: ShadowRead, error: Exception) -> None:
        level = logging.INFO if isinstance(error, psycopg.Error) else logging.WARNING
        log.log(level, "Shadow read of migration %d failed: %s", read.migration, error)
        self._end(read, failures=1)

    def _end(self, read: ShadowRead, **outcome: int) -> None:
        self._add(read.migration, reads=1, **outcome)

    def _add(self, migration: int, **outcome: int) -> None:
        with self._lock:
            counts = self._of(migration)
            for name, more in outcome.items():
                setattr(counts, name, getattr(counts, name) + more)

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


def same(one: Rows, other: Rows, *, ordered: bool) -> bool:
    """Whether both hold the same rows; their order counts only if ``ordered``.

    Values are compared by ``repr``: it tells 1.0 from 1.00, NaN equals itself, JSON and arrays can be sorted.
    """
    mine, theirs = [repr(row) for row in one], [repr(row) for row in other]
    return mine == theirs if ordered else sorted(mine) == sorted(theirs)
