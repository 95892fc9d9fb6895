"""What the planner sees, put together from a real control database."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import update

from foreshard.control.engine import ControlDatabase
from foreshard.control.fleet_view import fleet_view
from foreshard.control.forecast_store import ForecastRecord, ForecastStore
from foreshard.control.load_store import LoadStore
from foreshard.control.migration_models import Migration
from foreshard.control.migration_store import MigrationStore
from foreshard.control.models import Bucket, Plan
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.errors import NotFound
from foreshard.forecast.band import Band
from foreshard.forecast.peak import PEAK_LEVELS, Peak
from foreshard.forecast.result import ForecastResult
from foreshard.forecast.series import SeriesKey
from foreshard.load.sample import Sample
from foreshard.planning.view import NEVER, FleetView
from foreshard.settings import ClockSettings, ControlSettings, Settings
from foreshard.topology.keys import KeyType
from foreshard.topology.placement import Placement
from tests.plans import new_plan

HOUR = timedelta(hours=1)
NOW = datetime.now(UTC)
QUERIES, CPU = "queries_per_s", "cpu_cores"
LIES = {"a": "one", "b": "one", "B": "two", "c": "two"}
LIMITS = {QUERIES: 100.0, CPU: 4.0}
SHAPE = np.array([0.5, 1.0, 0.75])
SPREAD = np.array([0.8, 0.85, 0.9, 1.0, 1.1, 1.15, 1.2])


@pytest.fixture
def fleet(control: ControlDatabase) -> ControlDatabase:
    """Two shards with two buckets each."""
    topology = TopologyStore(control)
    topology.describe_fleet(KeyType.TEXT, {"orders": "customer"})
    for name in ("one", "two"):
        topology.put_shard(ShardRecord(name, "host=a", "host=a", LIMITS | {"disk_bytes": 1e9}))
    topology.put_buckets(tuple(LIES), Placement(dict(LIES)))
    return control


def result(key: SeriesKey, peak: float) -> ForecastResult:
    steps = pd.date_range(pd.Timestamp(NOW).ceil("h"), periods=3, freq="h")
    values = SHAPE * peak
    return ForecastResult(
        key, Band(steps, values[:, None] * SPREAD), Peak(np.linspace(0.9, 1.1, len(PEAK_LEVELS)) * peak), "naive",
        {}, {}, None, None, None, 1, "",
    )  # fmt: skip


ALL = {
    SeriesKey("one", None, QUERIES): 60.0, SeriesKey("two", None, QUERIES): 20.0,
    SeriesKey("one", None, CPU): 3.0, SeriesKey("two", None, CPU): 1.0,
    SeriesKey(None, "a", QUERIES): 40.0, SeriesKey(None, "b", QUERIES): 20.0,
    SeriesKey(None, "B", QUERIES): 10.0, SeriesKey(None, "c", QUERIES): 10.0,
}  # fmt: skip


def forecast(control: ControlDatabase, peaks: Mapping[SeriesKey, float] = ALL) -> ForecastRecord:
    return ForecastStore(control).save(
        NOW, [result(key, peak) for key, peak in peaks.items()],
        step=HOUR, horizon_hours=3, live_samples_used=0, seconds=1.0,
    )  # fmt: skip


def view(control: ControlDatabase, run: ForecastRecord) -> FleetView:
    settings = Settings(
        control=ControlSettings(dsn=control.conninfo), clock=ClockSettings(timezone="Europe/Berlin")
    )
    return fleet_view(control, settings, run)


def test_bands_peaks_and_medians(fleet: ControlDatabase) -> None:
    run = forecast(fleet)
    found = view(fleet, run)
    assert (found.metrics, found.shards.names, found.buckets.names) == (
        (CPU, QUERIES),
        ("one", "two"),
        ("B", "a", "b", "c"),
    )
    assert found.buckets.shard.tolist() == [1, 0, 0, 1]
    assert (found.step, found.steps, str(found.timezone)) == (HOUR, 3, "Europe/Berlin")
    assert np.allclose(found.shards.capacity, [[4, 100], [4, 100]])
    assert np.allclose(found.shards.at(0.9)[0, 1], SHAPE * 60 * 1.15)
    assert np.allclose(found.shards.peaks[1, 0], np.linspace(0.9, 1.1, 17))
    assert np.allclose(found.shards.current, [[1.5, 30], [0.5, 10]]), "nothing was measured"
    assert np.allclose(found.buckets.queries[1], SHAPE * 40)
    assert np.allclose(found.buckets.load[:, 1], found.buckets.queries)
    assert np.allclose(found.buckets.load[1, 0], SHAPE * 2.0), (
        "its share of the queries: 40 of 60, of 3 cores"
    )
    assert found.unknown == {}
    assert (found.buckets.rested_s == NEVER).all()
    assert found.moving == found.busy == {}


def test_present_load_and_sizes_as_measured(fleet: ControlDatabase) -> None:
    now = datetime.now(UTC)  # a suite may have run for many minutes since this file was imported
    LoadStore(fleet).add(
        [
            Sample(now, "one", None, CPU, 2.5),
            Sample(now, "one", "a", "size_bytes", 5e6),
            Sample(now, "one", "a", QUERIES, 7.0),
        ],
        "live",
    )
    found = view(fleet, forecast(fleet))
    assert found.shards.current[0, 0] == pytest.approx(2.5)
    assert found.buckets.size_bytes.tolist() == [0, 5_000_000, 0, 0]


def test_a_bucket_of_dear_queries_is_given_more_of_the_work(fleet: ControlDatabase) -> None:
    """Of two with as many queries; on the other shard nothing was measured, and costs are the fleet's."""
    rng = np.random.default_rng(3)
    samples = []
    for ago in range(24 * 8):
        at = NOW - ago * HOUR
        dear, cheap = 20 * rng.lognormal(0, 0.4), 20 * rng.lognormal(0, 0.4)
        samples += [Sample(at, "one", "a", QUERIES, dear), Sample(at, "one", "b", QUERIES, cheap)]
        samples += [Sample(at, "one", None, QUERIES, dear + cheap)]
        samples += [Sample(at, "one", None, CPU, 0.5 + 0.08 * dear + 0.03 * cheap)]
    LoadStore(fleet).add(samples, "live")
    found = view(fleet, forecast(fleet))
    per_query = found.buckets.load[:, 0, 1] / found.buckets.queries[:, 1]
    assert per_query[1] > 1.4 * per_query[2]
    assert per_query[1] == pytest.approx(0.08, rel=0.25)
    # Nothing is known of what buckets of the other shard did: by their share of its queries.
    assert per_query[3] == pytest.approx(1 / 20)


def test_what_has_no_forecast_does_not_stop_the_others(fleet: ControlDatabase) -> None:
    some = {
        key: peak
        for key, peak in ALL.items()
        if key.bucket != "b" and (key.shard, key.metric) != ("two", CPU)
    }
    found = view(fleet, forecast(fleet, some))
    assert found.shards.names == ("one",)
    assert found.buckets.names == ("a", "b")
    assert found.unknown == {"two": f"has no forecast of {CPU}; its 2 buckets stay", "b": "has no forecast"}
    assert (found.buckets.load[1] == 0).all()


def test_resources_that_cannot_be_compared_are_left_out_and_named(fleet: ControlDatabase) -> None:
    topology = TopologyStore(fleet)
    topology.put_shard(
        ShardRecord("one", "host=a", "host=a", LIMITS | {"io_ops_per_s": 5.0, "memory_bytes": 1e9})
    )
    topology.put_shard(ShardRecord("two", "host=a", "host=a", LIMITS | {"memory_bytes": 1e9}))
    topology.put_shard(ShardRecord("three", "host=a", "host=a", {"disk_bytes": 1e9}))
    found = view(fleet, forecast(fleet))
    assert found.metrics == (CPU, QUERIES)
    assert found.unknown == {
        "io_ops_per_s": "two has no capacity of it",
        "memory_bytes": "no shard has a forecast of it",
        "three": "has no capacity of any load; its 0 buckets stay",
    }


def test_a_run_of_no_shard(fleet: ControlDatabase) -> None:
    run = forecast(fleet, {SeriesKey(None, "a", QUERIES): 1.0})
    with pytest.raises(NotFound, match="no shard of the fleet"):
        view(fleet, run)


def test_migrations_under_way_and_those_that_have_ended(fleet: ControlDatabase) -> None:
    store = MigrationStore(fleet)
    ended, going, back = (
        store.open(new_plan(fleet, *where))
        for where in (("one", "two", ["a"]), ("one", "two", ["b"]), ("two", "one", ["c"]))
    )
    with fleet.transaction() as session:
        session.execute(update(Migration).where(Migration.id == ended).values(stage="done", finished_at=NOW))
        session.execute(update(Migration).where(Migration.id == back).values(stage="aborting"))
        session.execute(
            update(Bucket).where(Bucket.name == "a").values(last_moved_at=NOW - 2 * HOUR, shard="two")
        )
        session.execute(
            update(Plan)
            .where(Plan.id == store.get(going).plan_id)
            .values(document={"timeline": {"predicted_s": 7200.0}})
        )
        session.execute(
            update(Migration).where(Migration.id == going).values(created_at=NOW - timedelta(minutes=30))
        )
    found = view(fleet, forecast(fleet))
    row = {name: at for at, name in enumerate(found.buckets.names)}
    assert found.moving == {"b": "two", "c": "two"}, "one that is taken back stays where it was"
    rested_s = (datetime.now(UTC) - NOW + 2 * HOUR).total_seconds()  # NOW is when this file was read
    assert found.buckets.rested_s[row["a"]] == pytest.approx(rested_s, abs=60)
    assert found.buckets.came_from[row["a"]] == found.shards.names.index("one")
    assert found.buckets.came_from[row["b"]] == -1
    ends = NOW + timedelta(minutes=90)
    assert found.busy == {"one": ends, "two": ends}
