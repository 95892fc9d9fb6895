"""Collections of model servers: any sequence of accidents, and a whole day."""

from __future__ import annotations

import math
import random
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from foreshard.errors import ShardUnavailable
from foreshard.load import collection as module
from foreshard.load.collection import LastReading, collect_fleet
from foreshard.load.sample import Sample
from foreshard.load.source import Collected, Reading, Shard, Visit
from tests.unit.load.model_fleet import BUCKETS, T0, MemoryStore, ModelServer, SimulatedCollection, World

ACCIDENTS = (
    "nothing",
    "restart",
    "reset",
    "crash",
    "failover",
    "down",
    "up",
    "standby",
    "primary",
    "fleet clock",
    "shard clock",
    "other collector",
    "paused",
)
steps = st.sampled_from([-9000.0, -3600.0, -61.0, -30.0, -3.0, -0.5, 0.5, 3.0, 45.0, 3600.0, 9000.0])
minutes = st.tuples(
    st.lists(st.sampled_from(ACCIDENTS), max_size=2, unique=True),
    steps,
    st.sampled_from([5.0, 30.0, 60.0, 60.0, 60.0, 200.0, 1000.0]),
    st.floats(0, 500),
)


def happen(server: ModelServer, accident: str, size: float) -> None:
    """One accident; ``size`` is the step of a clock, or what a promoted standby has counted."""
    world = server.world
    match accident:
        case "restart":
            server.restart()
        case "reset":
            server.reset()
        case "crash":
            server.crash_of_a_backend()
        case "failover":
            server.fail_over(abs(size) * 100)
        case "down" | "up":
            server.is_down = accident == "down"
        case "standby" | "primary":
            server.in_recovery = accident == "standby"
        case "fleet clock":
            world.fleet_error_s += size
        case "shard clock":
            server.clock_error_s += size
        case "paused":
            world.paused_s += abs(size) / 100
        case "other collector":
            world.boot = "second" if world.boot == "first" else "first"


QUIET: tuple[list[str], float, float, float] = ([], 0.0, 60.0, 100.0)


@given(st.lists(minutes, min_size=3, max_size=25))
@example([QUIET, QUIET, (["fleet clock", "other collector"], 45.0, 60.0, 100.0), QUIET])
@example([QUIET, QUIET, (["shard clock", "other collector"], 45.0, 60.0, 100.0), QUIET])
@settings(max_examples=150, deadline=None)
def test_whatever_happens_nothing_is_negative_doubled_or_invented(
    story: list[tuple[list[str], float, float, float]],
) -> None:
    """Two clocks that step alike between two collectors are the one thing that nobody sees; it takes both to lie."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TICK_S", 0.001)
        server = ModelServer(World())
        simulated = SimulatedCollection(server, patch)
        lying: str | None = None
        for accidents, size, seconds, queries in story:
            for accident in accidents:
                if accident.endswith("clock") or accident == "paused":
                    if lying not in (None, accident):
                        continue
                    lying = accident
                happen(server, accident, size)
            server.work(seconds, queries)
            simulated.collect()
        simulated.check()


def test_a_day_with_every_accident(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,440 minutes of a load that follows the day; each accident costs a few minutes, and the rest is all told."""
    monkeypatch.setattr(module, "TICK_S", 0.001)
    chance = random.Random(7)
    world = World()
    server = ModelServer(world)
    simulated = SimulatedCollection(server, monkeypatch)
    accidents: dict[int, tuple[str, float]] = {
        120: ("restart", 0),
        121: ("restart", 0),
        240: ("reset", 0),
        360: ("crash", 0),
        480: ("standby", 0),
        483: ("failover", 5000),
        484: ("primary", 0),
        600: ("fleet clock", 1800.0),
        700: ("fleet clock", -1800.0),
        800: ("shard clock", -3600.0),
        900: ("shard clock", 3600.0),
        1000: ("other collector", 0),
        1001: ("other collector", 0),
        1050: ("paused", 4500),
        1100: ("down", 0),
        1130: ("up", 0),
        1200: ("fleet clock", -30.0),
    }
    lost = set(chance.sample(range(1300, 1400), 20))
    for minute in range(1440):
        happen(server, *accidents.get(minute, ("nothing", 0)))
        server.work(60, 200 + 150 * math.sin(2 * math.pi * minute / 1440))
        if minute not in lost:
            simulated.collect()
    simulated.check()
    told = sum(one.says for one in simulated.told)
    done = sum(server.done.values())
    # 30 minutes it was down, 29 the clock was behind what was told; the rest are single minutes around an accident.
    assert 0.94 * done < told <= done
    for bucket in BUCKETS:
        assert sum(one.sample.bucket == bucket for one in simulated.told) > 1440 - 20 - 30 - 32 - 20


def test_a_clock_that_goes_back_stores_nothing_until_that_time_has_passed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = ModelServer(World())
    simulated = SimulatedCollection(server, monkeypatch)
    stored = []
    for minute in range(12):
        if minute == 4:
            server.world.fleet_error_s -= 180
        server.work(60, 100)
        stored.append(simulated.collect().added > 0)
    assert stored == [True] * 4 + [False] * 3 + [True] * 5
    simulated.check()


def test_a_clock_that_had_run_ahead_for_long_is_believed_when_it_is_put_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = ModelServer(World(fleet_error_s=365 * 86400))
    simulated = SimulatedCollection(server, monkeypatch)
    server.work(60, 100)
    simulated.collect()
    server.world.fleet_error_s = 0
    server.work(60, 100)
    simulated.collect()
    assert simulated.store.samples[-1].ts == T0 + timedelta(seconds=120)


def test_a_collection_too_soon_keeps_the_old_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ModelServer(World())
    simulated = SimulatedCollection(server, monkeypatch)
    server.work(60, 100)
    simulated.collect()
    kept = simulated.store.reading("shard-1")
    server.work(9, 100)
    assert simulated.collect().skipped == {"shard-1": "read less than 10 s ago"}
    assert simulated.store.reading("shard-1") == kept
    server.work(51, 100)
    assert simulated.collect().added > 0


@dataclass(frozen=True)
class Named:
    name: str
    dsn: str = "host=elsewhere"


class Scripted:
    """A source that does for each shard what it is told, and gives the metrics that it is told."""

    def __init__(self, name: str, metrics: dict[str, float], owned: set[str], script: Any = None) -> None:
        self.name = name
        self._metrics, self._owned = metrics, owned
        self.script = script

    def owns(self, shard: Shard, reading: Reading | None) -> frozenset[str]:
        del shard, reading
        return frozenset(self._owned)

    def collect(self, visit: Visit, before: Reading | None) -> Collected:
        if self.script is not None:
            self.script(visit)
        samples = [Sample(visit.ts, visit.shard.name, None, m, v) for m, v in self._metrics.items()]
        return Collected({"count": 1 + (0 if before is None else before["count"])}, samples)


def fail(visit: Visit) -> None:
    if visit.shard.name == "two":
        raise ShardUnavailable("two does not answer", remedy="Start it.")


def test_a_shard_that_is_down_is_one_warning_and_the_others_are_collected() -> None:
    shards, store, world = [Named(f"{n}") for n in ("one", "two", "three")], MemoryStore(), World()
    sources = [Scripted("a", {"cpu_cores": 1.0}, set(), fail), Scripted("b", {"x_per_s": 1.0}, set(), fail)]
    heard: list[tuple[str, str]] = []
    found = collect_fleet(
        shards, lambda _: (), store, sources, world.now, warn=lambda shard, why: heard.append((shard, why))
    )
    assert heard == [("two", "two does not answer")]
    assert found.samples == {"one": 2, "three": 2}
    assert set(store.readings) == {"one", "three"}
    assert "missing: two" in found.summary()


class Elsewhere:
    """A source that knows nothing of any shard, and so never fails."""

    name = "elsewhere"

    def owns(self, shard: Shard, reading: Reading | None) -> frozenset[str]:
        del shard, reading
        return frozenset()

    def collect(self, visit: Visit, before: Reading | None) -> Collected:
        del visit, before
        return Collected({}, [])


def test_a_source_that_knows_nothing_does_not_make_a_shard_collected() -> None:
    store, world = MemoryStore(), World()
    sources = [Elsewhere(), Scripted("a", {"cpu_cores": 1.0}, set(), fail)]
    found = collect_fleet([Named("one"), Named("two")], lambda _: (), store, sources, world.now)
    assert found.samples == {"one": 1}
    assert set(found.missing) == {"two"}
    assert set(store.readings) == {"one"}


def test_a_metric_belongs_to_its_first_owner_even_if_that_one_fails() -> None:
    store, world = MemoryStore(), World()
    first = Scripted("first", {"io_bytes_per_s": 1.0}, {"io_bytes_per_s"})
    second = Scripted("second", {"io_bytes_per_s": 2.0, "wal_bytes_per_s": 3.0}, set())
    collect_fleet([Named("two")], lambda _: (), store, [first, second], world.now)
    assert {s.metric: s.value for s in store.samples} == {"io_bytes_per_s": 1.0, "wal_bytes_per_s": 3.0}
    world.seconds += 60
    first.script = fail
    store.samples.clear()
    collect_fleet([Named("two")], lambda _: (), store, [first, second], world.now)
    assert {s.metric: s.value for s in store.samples} == {"wal_bytes_per_s": 3.0}
    last = LastReading.from_json(store.reading("two"))
    assert last is not None
    assert last.sources == {"first": {"count": 1}, "second": {"count": 2}}


def test_of_two_collections_at_once_one_stores() -> None:
    store, world = MemoryStore(), World()
    both = threading.Barrier(2)
    source = Scripted("a", {"cpu_cores": 1.0}, set(), lambda _: both.wait(5))
    found: list[module.Collection] = []
    runs = [
        threading.Thread(
            target=lambda: found.append(
                collect_fleet([Named("one")], lambda _: (), store, [source], world.now)
            )
        )
        for _ in range(2)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert len(store.samples) == 1
    assert [one.skipped for one in found if one.skipped] == [{"one": "collected by another run meanwhile"}]


def test_a_collection_that_is_stopped_gives_up_and_leaves_what_is_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, world = MemoryStore(), World()
    waits, cut = threading.Event(), threading.Event()
    monkeypatch.setattr(Visit, "cut", lambda _: cut.set())

    def read(visit: Visit) -> None:
        if visit.shard.name == "slow":
            waits.set()
            assert cut.wait(5)
            raise ShardUnavailable("the line was cut")
        assert waits.wait(5)
        fail(visit)

    def stop(*_: str) -> None:
        raise KeyboardInterrupt

    source = Scripted("a", {"cpu_cores": 1.0}, set(), read)
    with pytest.raises(KeyboardInterrupt):
        collect_fleet([Named("slow"), Named("two")], lambda _: (), store, [source], world.now, warn=stop)
    assert cut.is_set()
    assert store.samples == []


def test_shards_on_one_server_do_not_each_get_its_totals() -> None:
    store, world = MemoryStore(), World()
    alone: dict[str, bool] = {}
    source = Scripted("a", {}, set(), lambda visit: alone.setdefault(visit.shard.name, visit.alone))
    shards = [Named("one", "host=a port=1"), Named("two", "host=a port=1 dbname=x"), Named("three", "host=a")]
    collect_fleet(shards, lambda _: (), store, [source], world.now)
    assert alone == {"one": False, "two": False, "three": True}


def test_what_was_not_reached_in_time_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMIT_S", 0.0)
    found = collect_fleet([Named("one")], lambda _: (), MemoryStore(), [], World().now)
    assert found.missing == {"one": "it was not reached in time"}


def test_a_reading_of_another_form_is_replaced() -> None:
    store, world = MemoryStore(), World()
    store.readings["one"] = {"counters": {"ts": "2013-11-27T00:00:00Z"}}
    found = collect_fleet(
        [Named("one")], lambda _: (), store, [Scripted("a", {"x_per_s": 1.0}, set())], world.now
    )
    assert found.added == 1
