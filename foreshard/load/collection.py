"""Collecting the fleet: every shard is visited once, and what its sources say is stored.

- Shards are visited side by side by a few threads. Each has its own time limit; a shard that is down is one line in
  `Collection.missing` and a gap in its series, and the others are collected all the same.
- Samples and the readings that they were made from are stored together, and only if the readings that the rates began
  with are still the ones stored. So two collections at once never count the same work twice, and one that is stopped
  leaves nothing half stored.
- The clock may stand or go back. Where samples tell of a time already nothing is stored for it again, until the clock
  has passed it; only if it went back by more than `MAX_BACK` it is taken to have been wrong before.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import TypeAdapter

from foreshard.errors import ForeshardError
from foreshard.load.instant import Instant
from foreshard.load.sample import Sample
from foreshard.load.source import LoadSource, Reading, Shard, Visit

WORKERS = 8
VISIT_S = 15.0
"""The longest that one shard is waited for."""
LIMIT_S = 50.0
"""What has not been begun by then waits for the next collection: a minute later that one comes."""
SOONEST_S = 10.0
"""Counters show what was done a second late: readings closer than this say little."""
MAX_BACK = timedelta(hours=2)
TICK_S = 0.2
FORM = 1
"""Of stored readings, those of the sources included: to be raised with every change of them."""


class ReadingStore(Protocol):
    """Where samples go, and the readings that the next ones are made from."""

    def reading(self, shard: str) -> dict[str, Any] | None:
        """The shard's last reading, as it was stored."""
        ...

    def add_reading(
        self,
        shard: str,
        before: Mapping[str, Any] | None,
        after: Mapping[str, Any],
        samples: Sequence[Sample],
    ) -> int | None:
        """Store samples and reading in one transaction if the stored reading is ``before``; else nothing, and None.

        Returns the number of new samples.
        """
        ...


@dataclass(frozen=True)
class LastReading:
    """What is kept of a shard: when it was read last, at which ``ts``, and what each source read.

    ``covered_until``: the newest time, by the fleet clock, that stored samples tell of.
    """

    at: Instant
    ts: datetime
    covered_until: datetime | None
    sources: Mapping[str, Reading]
    form: int = FORM

    def as_json(self) -> dict[str, Any]:
        """The reading as JSON can hold it; ``from_json`` gives it back."""
        return dict(_LAST.dump_python(self, mode="json"))

    @classmethod
    def from_json(cls, stored: Mapping[str, Any] | None) -> LastReading | None:
        """None without a reading, and for one of another form."""
        return _LAST.validate_python(stored) if stored is not None and stored.get("form") == FORM else None


_LAST = TypeAdapter(LastReading)


@dataclass
class Collection:
    """One collection of the fleet at ``ts``. By shard: new samples stored, and why something is missing."""

    ts: datetime
    samples: dict[str, int] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    """Shards for which nothing was to be stored now, and why; no fault of theirs."""
    seconds: float = 0.0

    @property
    def added(self) -> int:
        """New samples of all shards."""
        return sum(self.samples.values())

    def summary(self) -> str:
        """One line."""
        parts = [f"{self.added:,} new samples of {len(self.samples):,} shards in {self.seconds:.1f} s"]
        if self.missing:
            parts.append(f"missing: {', '.join(sorted(self.missing))}")
        parts += [f"{count} {why}" for why, count in sorted(Counter(self.skipped.values()).items())]
        return "; ".join(parts)


def collect_fleet(
    shards: Sequence[Shard],
    buckets_of: Callable[[str], Sequence[str]],
    store: ReadingStore,
    sources: Sequence[LoadSource],
    now: Callable[[], Instant],
    *,
    workers: int = WORKERS,
    warn: Callable[[str, str], None] | None = None,
) -> Collection:
    """Visit every shard once. ``sources`` in the order of who owns a metric; ``warn`` hears of a shard and its reason.

    Errors of the control database are raised: there is nobody to collect for. On any error and on Ctrl-C, shards that
    are being read are given up, and of them nothing is stored.
    """
    began = time.monotonic()
    collection = Collection(now().wall)
    shared = _shared([shard.dsn for shard in shards])
    visits: dict[Future[_Outcome], _Work] = {}
    # The same order each time, so that intervals are alike; another one each hour, lest the same are always left over.
    waiting = sorted(shards, key=lambda shard: shard.name)
    random.Random(int(collection.ts.timestamp()) // 3600).shuffle(waiting)
    with ThreadPoolExecutor(workers, thread_name_prefix="collect") as pool:
        try:
            while waiting or visits:
                while waiting and len(visits) < workers and time.monotonic() - began < LIMIT_S:
                    shard = waiting.pop()
                    work = _Work(
                        shard,
                        buckets_of(shard.name),
                        collection.ts,
                        store,
                        sources,
                        now,
                        alone=_server(shard.dsn) not in shared,
                    )
                    visits[pool.submit(work.run)] = work
                done, _ = wait(visits, timeout=TICK_S, return_when=FIRST_COMPLETED)
                for future in done:
                    _note(visits.pop(future).shard.name, future.result(), collection, warn)
                for work in visits.values():
                    work.cut_if_late()
                if waiting and not visits and time.monotonic() - began >= LIMIT_S:
                    for shard in waiting:
                        _note(shard.name, _Outcome(reason="it was not reached in time"), collection, warn)
                    break
        except BaseException:
            for work in visits.values():
                work.cut()
            raise
    collection.seconds = time.monotonic() - began
    return collection


@dataclass(frozen=True)
class _Outcome:
    """``added`` is None if nothing was stored: ``skipped`` or ``reason`` says why."""

    added: int | None = None
    skipped: str | None = None
    reason: str | None = None


class _Work:
    """One shard's visit, from its last reading to the next."""

    def __init__(
        self,
        shard: Shard,
        buckets: Sequence[str],
        ts: datetime,
        store: ReadingStore,
        sources: Sequence[LoadSource],
        now: Callable[[], Instant],
        *,
        alone: bool,
    ) -> None:
        self.shard = shard
        self._store, self._sources = store, sources
        self._visit = Visit(shard, buckets, ts, now, alone=alone)
        self._began: float | None = None
        self._given_up = False

    def run(self) -> _Outcome:
        """In a thread of the pool."""
        self._began = time.monotonic()
        stored = self._store.reading(self.shard.name)
        last = LastReading.from_json(stored)
        at = self._visit.now()
        if last is not None and _too_soon(last.at, at):
            return _Outcome(skipped=f"read less than {SOONEST_S:.0f} s ago")
        covered = _covered_until(last, at)
        held = covered is not None and at.wall <= covered
        if last is not None and covered is not None and self._visit.ts <= last.ts and not held:
            return _Outcome(skipped="collected by a later run already")
        self._visit.covered_until = covered
        readings, samples, reasons = self._read(last)
        if not any(readings.values()) or self._given_up:
            return _Outcome(reason="; ".join(reasons))
        if held:
            samples = [sample for sample in samples if sample.ts != self._visit.ts]
        else:
            covered = at.wall if samples else covered
        before = {} if last is None else dict(last.sources)
        ts = last.ts if last is not None and held else self._visit.ts
        after = LastReading(at, ts, covered, before | readings)
        added = self._store.add_reading(self.shard.name, stored, after.as_json(), samples)
        if added is None:
            return _Outcome(skipped="collected by another run meanwhile")
        skipped = "not stored: the clock went back, and that time is told already" if held else None
        return _Outcome(added, skipped, "; ".join(reasons) or None)

    def _read(self, last: LastReading | None) -> tuple[dict[str, Reading], list[Sample], list[str]]:
        """New readings by source, samples of whom they belong to, and each reason for which a source gave none."""
        readings: dict[str, Reading] = {}
        samples: list[Sample] = []
        reasons: list[str] = []
        owned: set[str] = set()
        with self._visit as visit:
            for source in self._sources:
                reading = None if last is None else last.sources.get(source.name)
                try:
                    found = source.collect(visit, reading)
                except ForeshardError as away:
                    reasons.append(self._reason(away.message))
                except (psycopg.Error, OSError) as broken:
                    reasons.append(self._reason(str(broken)))
                else:
                    if found.reading:  # a source that has nothing to do with this shard did not read it
                        reading = readings[source.name] = found.reading
                    samples += [one for one in found.samples if one.bucket or one.metric not in owned]
                    reasons += found.notes
                owned |= source.owns(self.shard, reading)
        return readings, samples, list(dict.fromkeys(reasons))

    def _reason(self, text: str) -> str:
        return f"no answer within {VISIT_S:.0f} s" if self._given_up else " ".join(text.split())

    def cut_if_late(self) -> None:
        """Give the shard up if it takes too long."""
        if self._began is not None and time.monotonic() - self._began > VISIT_S:
            self.cut()

    def cut(self) -> None:
        """Give the shard up: what is not read by now is not stored."""
        self._given_up = True
        self._visit.cut()


def _note(
    shard: str, outcome: _Outcome, collection: Collection, warn: Callable[[str, str], None] | None
) -> None:
    if outcome.added is not None:
        collection.samples[shard] = outcome.added
    if outcome.skipped is not None:
        collection.skipped[shard] = outcome.skipped
    if outcome.reason is not None:
        collection.missing[shard] = outcome.reason
        if warn is not None:
            warn(shard, outcome.reason)


def _too_soon(last: Instant, at: Instant) -> bool:
    same = last.boot == at.boot
    seconds = at.boot_s - last.boot_s if same else (at.wall - last.wall).total_seconds()
    return 0 <= seconds < SOONEST_S


def _covered_until(last: LastReading | None, at: Instant) -> datetime | None:
    if last is None or last.covered_until is None or last.covered_until - at.wall > MAX_BACK:
        return None
    return last.covered_until


def _server(dsn: str) -> tuple[str, str]:
    parts = conninfo_to_dict(dsn)
    host = parts.get("host") or parts.get("hostaddr") or parts.get("service") or "localhost"
    return str(host), str(parts.get("port") or 5432)


def _shared(dsns: Sequence[str]) -> frozenset[tuple[str, str]]:
    """Servers that more than one shard is on."""
    return frozenset(server for server, count in Counter(map(_server, dsns)).items() if count > 1)
