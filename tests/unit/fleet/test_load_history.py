"""The figures that the demo rests on: who is busy when, with and without the declared event."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from foreshard.fleet.airline import initial_placement
from foreshard.fleet.flights import BUCKETS, TIMEZONE, Airline, bucket_of, load_airline
from foreshard.fleet.load_history import (
    CAPACITY,
    FLEET_START,
    GETAWAY,
    HISTORY,
    LOOK_EVERY_S,
    Demand,
)
from foreshard.forecast.calendar import effect
from foreshard.forecast.panel import Panel
from foreshard.forecast.series import STEP, SeriesKey
from foreshard.load.sample import Sample

SHARDS = ("shard-1", "shard-2", "shard-3", "shard-4")
HOT, OTHERS = "shard-3", ("shard-1", "shard-2")


@pytest.fixture(scope="module")
def airline() -> Airline:
    return load_airline()


@pytest.fixture(scope="module")
def demand(airline: Airline) -> Demand:
    return Demand(airline)


@pytest.fixture(scope="module")
def utilisation(demand: Demand) -> pd.DataFrame:
    """Hourly queries/s of each loaded shard in units of capacity, until twelve hours after the start."""
    hourly = demand.hourly(FLEET_START - HISTORY, FLEET_START + timedelta(hours=12))
    placement = initial_placement()
    loads = {shard: hourly[list(placement.buckets_on(shard))].sum(axis=1) for shard in (HOT, *OTHERS)}
    return pd.DataFrame(loads) / CAPACITY["queries_per_s"]


@pytest.fixture(scope="module")
def history(demand: Demand) -> list[Sample]:
    return list(demand.history(initial_placement(), SHARDS))


def test_the_fleet_starts_on_the_eve_of_thanksgiving_at_13_in_new_york() -> None:
    local = FLEET_START.astimezone(ZoneInfo(TIMEZONE))
    assert (local.isoformat(), local.strftime("%A")) == ("2013-11-27T13:00:00-05:00", "Wednesday")
    assert GETAWAY.starts_at.astimezone(ZoneInfo(TIMEZONE)).hour == 15
    assert GETAWAY.ends_at.astimezone(ZoneInfo(TIMEZONE)).hour == 21


def test_when_the_fleet_starts_no_shard_is_near_its_reactive_threshold(utilisation: pd.DataFrame) -> None:
    around = utilisation.loc[FLEET_START - timedelta(hours=1) : FLEET_START]
    assert around.to_numpy().max() < 0.75


def test_the_rate_of_the_first_half_hour_stays_below_it_too(demand: Demand) -> None:
    placement = initial_placement()
    for minute in range(31):
        now = FLEET_START + timedelta(minutes=minute)
        for shard in (HOT, *OTHERS):
            rate = sum(demand.rate_at(bucket, now) for bucket in placement.buckets_on(shard))
            assert rate < 0.75 * CAPACITY["queries_per_s"]


def test_in_six_weeks_no_shard_reached_its_capacity(utilisation: pd.DataFrame) -> None:
    past = utilisation[utilisation.index < pd.Timestamp(FLEET_START)]
    assert past[HOT].max() == pytest.approx(0.97, abs=0.005)
    assert past[list(OTHERS)].to_numpy().max() < 0.70


def test_the_evenings_flights_alone_fit_and_the_getaway_does_not(utilisation: pd.DataFrame) -> None:
    evening = utilisation[utilisation.index >= pd.Timestamp(FLEET_START)]
    assert isinstance(evening.index, pd.DatetimeIndex)
    assert evening[HOT].max() < 0.95
    for shard in (HOT, *OTHERS):
        factor = effect([GETAWAY], SeriesKey(shard, None, "queries_per_s"), evening.index)
        peak = (evening[shard] * factor).max()
        assert peak > 1.2 if shard == HOT else peak < 0.75


def test_the_getaway_exceeds_hours_after_the_start(utilisation: pd.DataFrame) -> None:
    evening = utilisation[utilisation.index >= pd.Timestamp(FLEET_START)][HOT] * GETAWAY.effect
    first = evening[(evening > 1) & (evening.index >= pd.Timestamp(GETAWAY.starts_at))].index[0]
    assert first - pd.Timestamp(FLEET_START) >= pd.Timedelta(hours=2)


def test_the_whole_fleet_asks_no_more_than_a_laptops_client_can(demand: Demand) -> None:
    hourly = demand.hourly(FLEET_START - HISTORY, FLEET_START + timedelta(hours=12)).sum(axis=1)
    assert 300 < hourly.max() < 500


def test_an_hours_mean_is_the_mean_of_its_instants(demand: Demand) -> None:
    start = datetime(2013, 11, 20, 16, tzinfo=UTC)
    exact = demand.hourly(start, start + timedelta(hours=2))
    for bucket in ("b0000", "b0031"):
        seconds = range(0, 3600, 20)
        instants = [demand.rate_at(bucket, start + timedelta(seconds=second)) for second in seconds]
        assert exact[bucket].iloc[0] == pytest.approx(np.mean(instants), rel=0.02)


def test_a_known_flight_is_counted_from_an_hour_before_it_leaves_until_it_lands() -> None:
    departure = datetime(2013, 11, 20, 12, tzinfo=UTC)
    bucket = bucket_of("N1")
    airline = Airline(
        pd.DataFrame({"tailnum": ["N1"], "seats": [100], "bucket": [bucket]}),
        pd.DataFrame({"tailnum": ["N1"], "sched_dep": [departure], "distance": [600], "bucket": [bucket]}),
    )
    demand = Demand(airline)
    flown = timedelta(minutes=40 + 600 / 7.5)
    rate = 100 / LOOK_EVERY_S
    second = timedelta(seconds=1)
    assert demand.rate_at(bucket, departure - timedelta(hours=1) - second) == 0
    assert demand.rate_at(bucket, departure - timedelta(hours=1)) == rate
    assert demand.rate_at(bucket, departure + flown - second) == rate
    assert demand.rate_at(bucket, departure + flown) == 0
    hours = demand.hourly(departure - timedelta(hours=2), departure + timedelta(hours=3))[bucket]
    assert hours.tolist() == [0, pytest.approx(rate), pytest.approx(rate), pytest.approx(rate), 0]


def test_the_getaway_counts_once_it_has_begun(demand: Demand) -> None:
    second = timedelta(seconds=1)
    before = demand.rate_at("b0033", GETAWAY.starts_at - second)
    begun = demand.rate_at("b0033", GETAWAY.starts_at)
    assert before > 0
    assert begun == pytest.approx(before * GETAWAY.effect, rel=0.2)


def test_an_unknown_bucket_asks_nothing(demand: Demand) -> None:
    assert demand.rate_at("nowhere", FLEET_START) == 0


def test_history_is_six_weeks_of_every_bucket_and_shard(history: list[Sample]) -> None:
    hours = int(HISTORY / timedelta(hours=1))
    assert len(history) == hours * (len(BUCKETS) + 4 * len(SHARDS))
    assert len({(s.ts, s.shard, s.bucket, s.metric) for s in history}) == len(history)
    assert {s.ts for s in history} == {FLEET_START - timedelta(hours=hour) for hour in range(hours)}
    assert all(np.isfinite(s.value) and s.value >= 0 for s in history)


def test_a_shards_queries_are_the_sum_of_its_buckets(history: list[Sample]) -> None:
    noon = FLEET_START - timedelta(hours=1)
    queries = [s for s in history if s.ts == noon and s.metric == "queries_per_s"]
    for shard in SHARDS:
        (total,) = [s.value for s in queries if s.shard == shard and s.bucket is None]
        assert total == pytest.approx(sum(s.value for s in queries if s.shard == shard and s.bucket))
    assert not [s for s in queries if s.shard == "shard-4" and s.bucket]


def test_other_resources_are_far_from_their_capacities(history: list[Sample]) -> None:
    for metric in ("cpu_cores", "memory_bytes", "io_bytes_per_s"):
        assert max(s.value for s in history if s.metric == metric) < 0.5 * CAPACITY[metric]


def test_history_is_the_same_in_every_run(demand: Demand, history: list[Sample]) -> None:
    assert list(demand.history(initial_placement(), SHARDS)) == history


def test_the_forecaster_takes_it_as_it_is(demand: Demand) -> None:
    values = demand.hourly(FLEET_START - HISTORY, FLEET_START)["b0007"]
    row = values.to_numpy(np.float32)[None]
    panel = Panel((SeriesKey(None, "b0007", "queries_per_s"),), row, values.index[0].to_pydatetime(), STEP)
    assert panel.ends_at == FLEET_START
    assert np.isfinite(panel.values).all()
