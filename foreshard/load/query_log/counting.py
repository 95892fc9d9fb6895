"""Counts the statements of a log by minute and bucket. Pure.

A minute is counted to its end before it is told. The log's processes write side by side, so a minute is open for a few
seconds longer; where a later reading must begin, and with what knowledge, is remembered with each open minute.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from foreshard.load.query_log.histogram import Histogram
from foreshard.load.query_log.record import Record, Zones
from foreshard.load.query_log.sessions import PathState, Sessions
from foreshard.load.query_log.statement import Part, read_statement
from foreshard.load.sample import Sample

MINUTE = 60.0
LATE_S = "05"
"""So many seconds into a minute the one before is over: no record comes later than that."""
_CACHED_STATEMENTS = 4096
_CACHED_LENGTH = 2048

_DOWN = (
    "starting PostgreSQL",
    "received fast shutdown",
    "received smart shutdown",
    "received immediate shutdown",
    "database system is shut down",
    "database system is ready to accept",
    "database system was interrupted",
    "all server processes terminated",
    "terminating any other active server processes",
)
_STARTS = ("starting PostgreSQL", "all server processes terminated")

Read = Literal["counted", "not counted", "late", "bare", "unreadable"]


@dataclass
class Minute:
    """What was counted in one minute, and where reading it again begins: ``file`` and ``place`` in it."""

    file: str
    place: int
    sessions: Mapping[str, PathState]
    seen: frozenset[str]
    shard: Histogram = field(default_factory=Histogram)
    buckets: dict[str, Histogram] = field(default_factory=dict)
    broken: bool = False


class Counting:
    """Takes the records of one server's log in their order and gives the samples of each minute that is over.

    ``state`` is what an earlier counting left (`state`). ``factor``: how many statements each logged one stands for.
    """

    def __init__(
        self, shard: str, database: str, known: Collection[str], placed: Collection[str], factor: float,
        state: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        state = state or {}
        self._shard = shard
        self._database = database
        self._known = frozenset(known)
        self._placed = frozenset(placed)
        self._factor = factor
        self._zones = Zones()
        self._sessions = Sessions(state.get("sessions"))
        self._seen = frozenset(state.get("seen", ()))
        self._whole_from: float | None = state.get("whole_from")
        self.closed_until: float | None = state.get("closed_until")
        self._open: dict[float, Minute] = {}
        self._latest = 0.0
        self._parsed: dict[str, tuple[Part, ...]] = {}
        self.samples: list[Sample] = []
        """Of the minutes that are over; the caller takes them away."""
        self.totals: dict[str | None, Histogram] = {}
        """Of all minutes that were told, as logged; None is the shard."""
        self.minutes = 0

    def state(self) -> tuple[str, int, dict[str, Any]] | None:
        """File and place where a later reading begins, and the state to begin with; None before any record."""
        if not self._open:
            return None
        first = next(iter(self._open.values()))  # in the order in which they were begun
        return (
            first.file,
            first.place,
            {
                "sessions": {
                    name: [one.by_set, one.local, one.local_set, one.before, one.transaction, one.failed]
                    for name, one in first.sessions.items()
                },
                "seen": sorted(first.seen),
                "whole_from": self._whole_from,
                "closed_until": self.closed_until,
            },
        )

    def add(self, record: Record, file: str, place: int) -> Read:
        """One more record, which begins at ``place`` of ``file``."""
        at = self._zones.minute(record)
        if at is None:
            return "unreadable"
        late = self.closed_until is not None and at < self.closed_until
        before = self._latest
        minute = self._open.get(at)
        if minute is None and not late:
            minute = self._begin(at, file, place)
        is_client = record.backend == "client backend"
        if not is_client and record.message.startswith(_DOWN):
            # After a crash nothing says when it was: in the minute of the last record before this one, or later.
            for one in {at, before} & self._open.keys():
                self._open[one].broken = True
            if record.message.startswith(_STARTS):
                self._sessions.clear()
        if len(self._open) > 1 and at == self._latest and record.timestamp[17:19] >= LATE_S:
            self._close(at)
        return self._statement(record, minute) if is_client else "not counted"

    def _begin(self, at: float, file: str, place: int) -> Minute:
        if self._whole_from is None:
            self._whole_from = at + MINUTE
        minute = Minute(file, place, self._sessions.snapshot(), self._seen)
        self._open[at] = minute
        if at > self._latest:
            self._latest = at
        return minute

    def _statement(self, record: Record, minute: Minute | None) -> Read:
        message = record.message
        if record.database != self._database:
            return "not counted"
        if not message.startswith("duration: "):
            if record.severity == "ERROR":
                self._sessions.fail(record.session)
            elif record.severity == "FATAL" or message.startswith("disconnection: "):
                self._sessions.forget(record.session)
            elif _is_duration(message):
                return "bare"
            return "not counted"
        end = message.find(" ms", 10, 40)
        rest = message[end + 5 :]
        if not rest:
            return "bare"
        kind, _, text = rest.partition(": ")
        if kind == "plan":  # of auto_explain
            return "not counted"
        seconds = float(message[10:end]) / 1000
        counts = kind == "statement" or (
            kind.startswith("execute ") and not kind.startswith("execute fetch from ")
        )
        if counts:
            found = self._sessions.buckets(
                record.session, record.transaction, self._parts(text, record.detail)
            )
        else:
            found = self._sessions.named(record.session, record.transaction, self._parts(text, ""))
        if record.application.startswith("foreshard"):
            return "not counted"
        if not found <= self._seen:
            self._seen |= found
        if minute is None:
            return "late"
        _count(minute.shard, seconds, counts)
        for bucket in found:
            histogram = minute.buckets.get(bucket)
            if histogram is None:
                histogram = minute.buckets[bucket] = Histogram()
            _count(histogram, seconds, counts)
        return "counted" if counts else "not counted"

    def _parts(self, text: str, detail: str) -> tuple[Part, ...]:
        if detail:
            if detail.startswith("prepare: "):
                text = detail[9:].partition(" AS ")[2] or text
            elif "set_config" in text:
                return read_statement(text, self._known, detail)
        parts = self._parsed.get(text)
        if parts is None:
            parts = read_statement(text, self._known)
            if len(text) <= _CACHED_LENGTH:
                if len(self._parsed) >= _CACHED_STATEMENTS:
                    self._parsed.clear()
                self._parsed[text] = parts
        return parts

    def _close(self, until: float) -> None:
        """Tell the minutes before ``until``."""
        for at in sorted(one for one in self._open if one < until):
            minute = self._open.pop(at)
            if not minute.broken and self._whole_from is not None and at >= self._whole_from:
                self._tell(at, minute)
        self.closed_until = until

    def _tell(self, at: float, minute: Minute) -> None:
        ts = datetime.fromtimestamp(at, UTC) + timedelta(minutes=1)
        self.minutes += 1
        silent = Histogram()
        self._tell_one(ts, None, minute.shard)
        for bucket in sorted(self._placed | self._seen):
            self._tell_one(ts, bucket, minute.buckets.get(bucket, silent))

    def _tell_one(self, ts: datetime, bucket: str | None, counted: Histogram) -> None:
        def sample(metric: str, value: float) -> None:
            self.samples.append(Sample(ts, self._shard, bucket, metric, value))

        sample("statements_per_s", counted.count * self._factor / MINUTE)
        sample("statement_seconds_per_s", counted.seconds * self._factor / MINUTE)
        if counted.bins:
            sample("statement_p95_s", counted.quantile(0.95))
        if counted.count or bucket is None:
            self.totals.setdefault(bucket, Histogram()).merge(counted)


def _count(histogram: Histogram, seconds: float, counts: bool) -> None:
    if counts:
        histogram.add(seconds)
    else:
        histogram.seconds += seconds


def _is_duration(message: str) -> bool:
    """A duration in another language: some words, a colon, a number, ms."""
    word, colon, rest = message[:60].partition(": ")
    number, ms, _ = rest.partition(" ms")
    return bool(colon and ms) and " " not in word and number.replace(".", "", 1).isdigit()
