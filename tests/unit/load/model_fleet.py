"""Servers of which the truth is known, clocks that can be set, and a store in memory, for simulated collections."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from foreshard.errors import ShardUnavailable
from foreshard.load.collection import Collection, LastReading, collect_fleet
from foreshard.load.counters import BucketCounters, CounterReading, Epoch, ServerTotals
from foreshard.load.instant import Instant, tolerance_s
from foreshard.load.postgres_source import PostgresSource
from foreshard.load.sample import Sample
from foreshard.load.source import Visit

T0 = datetime(2013, 11, 27, tzinfo=UTC)
BUCKETS = ("b0", "b1")
FIRST_EPOCH = Epoch("7711", "00000001", 16384, T0, (None, T0, T0, T0))
LAG_S = 1.0
"""How late a server's counters may show what was done."""


@dataclass
class World:
    """True seconds since the beginning. The fleet clock is ``fleet_error_s`` off; collectors run on ``boot``.

    ``paused_s``: how long they were paused, as virtual machines are, while no clock of theirs went on.
    """

    seconds: float = 0.0
    fleet_error_s: float = 0.0
    paused_s: float = 0.0
    boot: str = "first"

    def now(self) -> Instant:
        """What a collector reads off its clocks."""
        seconds = self.seconds - self.paused_s
        since_boot = seconds + {"first": 5000.0, "second": 123.0}[self.boot]
        return Instant(T0 + timedelta(seconds=seconds + self.fleet_error_s), self.boot, since_boot)


@dataclass
class ModelServer:
    """A server that counts what is done; ``done`` is the truth, which no restart forgets."""

    world: World
    name: str = "shard-1"
    dsn: str = "host=shard-1"
    clock_error_s: float = 0.0
    is_down: bool = False
    in_recovery: bool = False
    done: dict[str, float] = field(default_factory=lambda: dict.fromkeys(BUCKETS, 0.0))
    _shown: dict[str, float] = field(default_factory=lambda: dict.fromkeys(BUCKETS, 0.0))
    _forgotten: dict[str, float] = field(default_factory=lambda: dict.fromkeys(BUCKETS, 0.0))
    _epoch: Epoch = FIRST_EPOCH

    def work(self, seconds: float, queries_per_s: float) -> None:
        """The application works at that rate (the second bucket gets half of the first's) while time goes on."""
        for number, bucket in enumerate(BUCKETS, 1):
            visible = min(seconds, LAG_S) / seconds if seconds else 0.0
            self._shown[bucket] = self.done[bucket] + queries_per_s / number * seconds * (1 - visible)
            self.done[bucket] += queries_per_s / number * seconds
        self.world.seconds += seconds

    def restart(self) -> None:
        """Its counters begin anew, and its life."""
        self._begin_anew()
        self._epoch = self._epoch._replace(started_at=self._clock())

    def reset(self) -> None:
        """Somebody calls pg_stat_reset()."""
        self._begin_anew()
        self._epoch = self._epoch._replace(resets=(self._clock(), *self._epoch.resets[1:]))

    def crash_of_a_backend(self) -> None:
        """The postmaster lives on; all statistics are discarded, the database's reset time with them."""
        self._begin_anew()
        self._epoch = self._epoch._replace(resets=(None, self._clock(), self._clock(), self._clock()))

    def fail_over(self, counted: float) -> None:
        """Another server answers, whose counters are somewhere."""
        for bucket in BUCKETS:
            self._forgotten[bucket] = self._shown[bucket] - counted
        timeline = f"{int(self._epoch.timeline, 16) + 1:08X}"
        self._epoch = self._epoch._replace(timeline=timeline, started_at=self._clock())

    def read(self) -> CounterReading:
        """As `read_counters`."""
        if self.is_down:
            raise ShardUnavailable("shard-1 does not answer")
        if self.in_recovery:
            raise ShardUnavailable("shard-1 is in recovery")
        counts = {bucket: int(self._shown[bucket] - self._forgotten[bucket]) for bucket in BUCKETS}
        return CounterReading(
            self.world.now(),
            self._clock(),
            self._epoch,
            ServerTotals(sum(counts.values()), 0, 0, 0),
            {bucket: BucketCounters(1, count, count, 0) for bucket, count in counts.items()},
            dict.fromkeys(BUCKETS, 8192),
        )

    def _begin_anew(self) -> None:
        self._forgotten = dict(self._shown)

    def _clock(self) -> datetime:
        return T0 + timedelta(seconds=self.world.seconds + self.clock_error_s)


@dataclass
class MemoryStore:
    """A store that keeps everything, as JSON would."""

    readings: dict[str, dict[str, Any]] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)

    def reading(self, shard: str) -> dict[str, Any] | None:
        return self.readings.get(shard)

    def add_reading(
        self,
        shard: str,
        before: Mapping[str, Any] | None,
        after: Mapping[str, Any],
        samples: Sequence[Sample],
    ) -> int | None:
        if self.readings.get(shard) != before:
            return None
        self.readings[shard] = json.loads(json.dumps(after))
        self.samples += samples
        return len(samples)


@dataclass(frozen=True)
class Told:
    """A rate that was stored: what it says was done, and the fleet time that it tells of.

    ``truth`` was done in that time, visible at its end or not; ``seen`` of it the counters showed.
    """

    sample: Sample
    says: float
    truth: float
    seen: float
    since: datetime
    until: datetime


class SimulatedCollection:
    """Collects a model server, and holds every rate that is stored against the truth."""

    def __init__(self, server: ModelServer, patch: pytest.MonkeyPatch) -> None:
        self.server, self.store = server, MemoryStore()
        self.told: list[Told] = []
        self._read_at = 0.0
        self._done_then: dict[str, float] = {}
        patch.setattr(Visit, "server", lambda _: server)
        patch.setattr(
            "foreshard.load.postgres_source.read_counters",
            lambda server, *_: server.read(),
        )

    def collect(self) -> Collection:
        """One run of `collect`."""
        world, before = self.server.world, self.store.readings.get(self.server.name)
        old = len(self.store.samples)
        found = collect_fleet([self.server], lambda _: BUCKETS, self.store, [PostgresSource()], world.now)
        new = self.store.samples[old:]
        if self.store.readings.get(self.server.name) != before:
            seconds = world.seconds - self._read_at
            for sample in new:
                if sample.metric == "queries_per_s" and sample.bucket is not None:
                    truth = self.server.done[sample.bucket] - self._done_then[sample.bucket]
                    seen = self.server._shown[sample.bucket] - self._done_then[sample.bucket]
                    says = sample.value * seconds
                    since = sample.ts - timedelta(seconds=seconds)
                    self.told.append(Told(sample, says, truth, seen, since, sample.ts))
            self._read_at, self._done_then = world.seconds, dict(self.server._shown)
        last = LastReading.from_json(self.store.readings.get(self.server.name))
        assert last is None or last.at.wall <= world.now().wall or not new
        return found

    def check(self) -> None:
        """Nothing negative, nothing doubled, nothing invented."""
        for one in self.store.samples:
            assert one.value >= 0
        keys = [(one.ts, one.bucket, one.metric) for one in self.store.samples]
        assert len(keys) == len(set(keys))
        for one in self.told:
            # A whole count may fall to either side of a reading.
            assert one.says <= one.truth + 1
            seconds = (one.until - one.since).total_seconds()
            assert one.says >= one.seen * (1 - tolerance_s(seconds) / seconds) - 1
        for bucket in BUCKETS:
            of_bucket = sorted((t.until, t.since) for t in self.told if t.sample.bucket == bucket)
            for (earlier_end, _), (_, later_begin) in pairwise(of_bucket):
                assert later_begin >= earlier_end - timedelta(seconds=8)
