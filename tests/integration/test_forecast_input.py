"""What the forecast learns from: rows for the whole fleet, under the placement of now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from foreshard.control.calendar_store import CalendarStore
from foreshard.control.engine import ControlDatabase
from foreshard.control.forecast_input import FINE_HISTORY, ForecastInput, fleet_load, forecast_input
from foreshard.control.load_keeper import LoadKeeper
from foreshard.control.load_store import LoadStore
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.errors import InvalidInput, NotFound
from foreshard.forecast.calendar import Event
from foreshard.forecast.panel import Values
from foreshard.load.sample import Sample
from foreshard.topology.keys import KeyType
from foreshard.topology.placement import Placement

START = datetime(2026, 3, 2, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
RATE, CPU, MEMORY = "queries_per_s", "cpu_cores", "memory_bytes"
CAPACITY = {RATE: 100.0, CPU: 4.0, MEMORY: 1e10, "disk_bytes": 1e12}
PLACEMENT = Placement({"a": "one", "b": "one", "c": "two", "unseen": "two"})
COST = {"a": 0.01, "b": 0.01, "c": 0.02}
HOURS = 72


@pytest.fixture
def fleet(control: ControlDatabase) -> ControlDatabase:
    """Of "three" and of bucket "unseen" nothing was ever measured."""
    topology = TopologyStore(control)
    topology.describe_fleet(KeyType.TEXT, {"things": "owner"})
    for name in ("one", "two", "three"):
        topology.put_shard(ShardRecord(name, f"dbname={name}", f"dbname={name}", CAPACITY))
    topology.put_buckets(PLACEMENT.of, PLACEMENT)
    LoadStore(control).add(samples(HOURS), "history")
    return control


def rates(hours: int) -> dict[str, Values]:
    """By bucket, of each hour."""
    draw = np.random.default_rng(1)
    return {bucket: (20 + 20 * draw.random(hours)).astype("f4") for bucket in COST}


def samples(hours: int) -> list[Sample]:
    found = []
    of = rates(hours)
    for hour in range(hours):
        ts = START + (hour + 1) * HOUR
        cpu = {"one": 0.2, "two": 0.1}
        for bucket, cost in COST.items():
            shard = PLACEMENT.shard_of(bucket)
            found.append(Sample(ts, shard, bucket, RATE, float(of[bucket][hour])))
            cpu[shard] += cost * float(of[bucket][hour])
        for shard, value in cpu.items():
            found += [Sample(ts, shard, None, CPU, value), Sample(ts, shard, None, MEMORY, 2e9)]
    return found


def row(found: ForecastInput, key: str) -> Values:
    return found.panel.values[[str(one) for one in found.panel.keys].index(key)]


def test_every_bucket_and_every_shard_has_a_row(fleet: ControlDatabase) -> None:
    found = forecast_input(fleet, START + HOURS * HOUR - timedelta(minutes=20), 42 * DAY)
    assert (found.since, found.starts_at, found.live_samples) == (START, START + HOURS * HOUR, 0)
    assert found.panel.values.shape == (4 + 3 * 3, HOURS)
    assert (found.panel.starts_at, found.panel.ends_at) == (found.since, found.starts_at)
    of = rates(HOURS)
    assert row(found, f"a/{RATE}") == pytest.approx(of["a"], rel=1e-6)
    assert np.isnan(row(found, f"unseen/{RATE}")).all()
    assert row(found, f"one/{RATE}") == pytest.approx(of["a"] + of["b"], rel=1e-6)
    assert row(found, f"two/{RATE}") == pytest.approx(of["c"], rel=1e-6)
    assert row(found, f"two/{CPU}") == pytest.approx(0.1 + 0.02 * of["c"], rel=1e-5)
    assert row(found, f"two/{MEMORY}") == pytest.approx(2e9)
    for metric in (RATE, CPU, MEMORY):  # new and empty
        assert (row(found, f"three/{metric}") == 0).all()


def test_after_a_migration_no_hour_carries_the_old_placement(fleet: ControlDatabase) -> None:
    now = START + HOURS * HOUR
    before = forecast_input(fleet, now, 42 * DAY)
    moved = PLACEMENT.moved(["c"], "three")
    TopologyStore(fleet).put_buckets(moved.of, moved)
    after = forecast_input(fleet, now, 42 * DAY)
    part = 0.02 * rates(HOURS)["c"]
    assert row(before, f"two/{CPU}") - row(after, f"two/{CPU}") == pytest.approx(part, rel=0.02)
    assert row(after, f"three/{CPU}") == pytest.approx(part, rel=0.02)
    assert row(after, f"three/{RATE}") == pytest.approx(rates(HOURS)["c"], rel=1e-6)
    assert row(after, f"c/{RATE}") == pytest.approx(row(before, f"c/{RATE}"))
    # And that is what a plan was told that asked before it.
    asked = before.load.shard_panel(moved, ["two", "three"], [CPU, RATE])
    told = [row(after, str(key)) for key in asked.keys]
    np.testing.assert_allclose(asked.values, told, rtol=1e-5)


def test_only_what_is_asked_for(fleet: ControlDatabase) -> None:
    now = START + HOURS * HOUR
    found = forecast_input(fleet, now, DAY, metrics=[CPU])
    assert [str(key) for key in found.panel.keys] == [f"{shard}/{CPU}" for shard in ("one", "three", "two")]
    assert found.panel.steps == 24
    found = forecast_input(fleet, now, DAY, metrics=[RATE])
    assert {key.metric for key in found.panel.keys} == {RATE}
    assert len(found.panel.keys) == 4 + 3
    with pytest.raises(InvalidInput, match="cpu_cors") as refused:
        forecast_input(fleet, now, DAY, metrics=["cpu_cors"])
    assert refused.value.field == "metrics"


def test_events_up_to_the_horizon_are_in_the_panel(fleet: ControlDatabase) -> None:
    now = START + HOURS * HOUR
    calendar = CalendarStore(fleet)
    for name, begin in (("before", -90 * HOUR), ("past", -50 * HOUR), ("near", 5 * HOUR), ("far", 30 * HOUR)):
        calendar.add(Event(name, now + begin, now + begin + HOUR, 1.5))
    zone = ZoneInfo("America/New_York")
    found = forecast_input(fleet, now, 42 * DAY, timezone=zone, horizon=6 * HOUR)
    assert [event.name for event in found.panel.events] == ["past", "near"]
    assert found.panel.timezone == zone
    assert found.load.shard_panel(PLACEMENT, ["one"], [CPU]).events == found.panel.events


@pytest.mark.parametrize("minutes", [5, 15])
def test_short_steps_begin_with_the_next_of_them(control: ControlDatabase, minutes: int) -> None:
    step, minute = timedelta(minutes=minutes), timedelta(minutes=1)
    topology = TopologyStore(control)
    topology.describe_fleet(KeyType.TEXT, {"things": "owner"})
    topology.put_shard(ShardRecord("one", "dbname=one", "dbname=one", {RATE: 1.0, CPU: 1.0}))
    topology.put_buckets(["a"], Placement({"a": "one"}))
    now = START + 137 * minute
    for ts in (now - n * minute for n in range(130)):
        given = [Sample(ts, "one", "a", RATE, 6.0), Sample(ts, "one", None, CPU, 0.5)]
        long_ago = ts - FINE_HISTORY + HOUR
        LoadStore(control).add([*given, Sample(long_ago, "one", "a", RATE, 9.0)], "live")
    LoadKeeper(control).keep(now)
    found = forecast_input(control, now, 42 * DAY, step=step)
    assert found.starts_at == START + (140 if minutes == 5 else 150) * minute
    assert found.panel.step == step
    assert found.since == found.starts_at - FINE_HISTORY
    for key, value in ((f"a/{RATE}", 6.0), (f"one/{CPU}", 0.5)):
        assert row(found, key)[-120 // minutes :] == pytest.approx(value)
    assert row(found, f"one/{RATE}")[0] == pytest.approx(9.0)
    assert np.isnan(row(found, f"a/{RATE}")[1000 // minutes])
    assert np.isnan(row(found, f"one/{CPU}")[0])
    assert 260 <= found.live_samples <= 260 + 60 + 57
    with pytest.raises(InvalidInput, match="step"):
        forecast_input(control, now, DAY, step=7 * minute)


def test_without_any_load_there_is_nothing_to_learn_from(control: ControlDatabase) -> None:
    with pytest.raises(NotFound, match="no load of any bucket"):
        forecast_input(control, START, DAY)
    assert fleet_load(control, START, DAY).shard_panel(Placement({}), [], []).keys == ()
