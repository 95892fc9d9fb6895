"""Forecasts in a real control database."""

from __future__ import annotations

import time
from contextlib import closing
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from alembic import command
from alembic.config import Config

from foreshard.control.engine import ControlDatabase
from foreshard.control.forecast_store import ForecastRecord, ForecastStore
from foreshard.errors import NotFound
from foreshard.forecast.band import Band
from foreshard.forecast.forecast_options import Before
from foreshard.forecast.peak import PEAK_LEVELS, Peak
from foreshard.forecast.result import ForecastResult
from foreshard.forecast.series import SeriesKey
from tests.plans import new_decision

NOW = datetime(2026, 3, 2, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
QUARTER = timedelta(minutes=15)
BUCKET = SeriesKey(None, 'b\'0 "x"', "queries_per_s")
SHARD = SeriesKey("ein Scherben", None, "cpu_cores")


def result(key: SeriesKey, *, step: timedelta = HOUR, steps: int = 24, seed: int = 1) -> ForecastResult:
    """Any numbers, of single precision so that they come back as they are."""
    rng = np.random.default_rng(seed)
    ts = pd.date_range(NOW, periods=steps, freq=step, tz="UTC")
    band = Band(ts, np.sort(rng.random((steps, 7)).astype(np.float32), axis=1).astype(float))
    peak = Peak(np.sort(rng.random(len(PEAK_LEVELS)).astype(np.float32)).astype(float))
    return ForecastResult(
        key, band, peak, "combination", {"ets": 0.25, "lightgbm": 0.75}, {"ets": 0.8, "combination": 0.7},
        0.91, NOW - 42 * timedelta(days=1), NOW - step, 1008, "2 values were left out",
    )  # fmt: skip


@pytest.fixture
def store(control: ControlDatabase) -> ForecastStore:
    return ForecastStore(control)


def save(store: ForecastStore, *results: ForecastResult, **options: object) -> ForecastRecord:
    given = {"step": HOUR, "horizon_hours": 24.0, "live_samples_used": 2, "seconds": 1.5} | options
    return store.save(NOW, results or (result(SHARD), result(BUCKET)), **given)  # type: ignore[arg-type]


def test_a_forecast_comes_back_as_it_was(store: ForecastStore) -> None:
    run = save(store, notes=["the LSTM is of yesterday"], parameters={"step": 60})
    assert store.newest() == store.get(run.id) == run
    assert (run.series, run.step, run.counts) == (2, HOUR, {"combination": 2})
    assert (run.notes, run.parameters, run.metrics) == (("the LSTM is of yesterday",), {"step": 60}, None)
    back = store.results(run.id)
    assert back.keys() == {SHARD, BUCKET}
    for key, one in back.items():
        given = result(key)
        assert one.band.ts.equals(given.band.ts)
        assert np.array_equal(one.band.quantiles, given.band.quantiles)
        assert np.array_equal(one.peak.values, given.peak.values)
        for field in (
            "model",
            "weights",
            "scores",
            "coverage",
            "trained_from",
            "trained_to",
            "points",
            "note",
        ):
            assert getattr(one, field) == getattr(given, field)
    alone = store.result(run.id, BUCKET)
    assert alone is not None
    assert np.array_equal(alone.band.quantiles, result(BUCKET).band.quantiles)
    assert store.result(run.id, SeriesKey("none", None, "cpu_cores")) is None
    with pytest.raises(NotFound, match="no forecast 999"):
        store.results(999)


def test_what_json_and_single_precision_cannot_hold(store: ForecastStore) -> None:
    plain = result(SHARD)
    huge = Band(plain.band.ts, np.full((24, 7), 1e300))
    odd = ForecastResult(
        SHARD, huge, Peak(np.full(len(PEAK_LEVELS), 1e300)), "ets", {}, {"ets": float("nan"), "lstm": 2.0},
        None, None, None, 0, "",
    )  # fmt: skip
    back = store.results(save(store, odd).id)[SHARD]
    assert back.scores == {"lstm": 2.0}
    assert back.band.quantiles.max() == pytest.approx(np.finfo(np.float32).max)
    assert (back.coverage, back.trained_from) == (None, None)


def test_a_run_that_fails_half_way_leaves_nothing(store: ForecastStore) -> None:
    with pytest.raises(Exception, match="duplicate key"):
        save(store, result(SHARD), result(SHARD))
    assert store.newest() is None


def test_decisions_take_what_the_settings_forecast(store: ForecastStore) -> None:
    """Not a run that a person made of another step, of a shorter time, or of some metrics only."""
    assert store.newest_whole(HOUR, 12.0) is None
    wanted = save(store)
    quarters = save(store, result(SHARD, step=QUARTER), step=QUARTER)
    save(store, result(SHARD, steps=6), horizon_hours=6.0)
    part = save(store, metrics=["cpu_cores"])
    assert store.newest() == part
    assert store.newest(QUARTER) == quarters
    assert store.newest_whole(HOUR, 12.0) == wanted


def test_what_the_last_run_said_of_each_series(store: ForecastStore) -> None:
    assert store.before(HOUR) == {}
    save(store)
    save(store, result(SHARD), metrics=["cpu_cores"])
    said = Before("combination", {"ets": 0.8, "combination": 0.7})
    assert store.before(HOUR) == {SHARD: said, BUCKET: said}
    assert store.before(QUARTER) == {}


def test_the_last_known_good_fits(store: ForecastStore) -> None:
    span = NOW - 42 * timedelta(days=1), NOW
    store.keep(HOUR, {"lightgbm": b"\0one", "lstm": b"two"}, NOW, span, 100)
    store.keep(QUARTER, {"lightgbm": b"of quarters"}, NOW, span, 100)
    store.keep(HOUR, {"lightgbm": b"newer", "lstm": b"two"}, NOW + HOUR, (span[0], NOW + HOUR), 90)
    kept = store.kept(HOUR)
    assert {name: fit.payload for name, fit in kept.items()} == {"lightgbm": b"newer", "lstm": b"two"}
    assert (kept["lightgbm"].fitted_at, kept["lightgbm"].series) == (NOW + HOUR, 90)
    assert (kept["lstm"].fitted_at, kept["lstm"].series) == (NOW, 100)


def test_old_runs_go_but_not_those_that_decisions_were_made_on(
    control: ControlDatabase, store: ForecastStore
) -> None:
    runs = [save(store).id for _ in range(4)]
    with control.transaction() as session:
        session.connection().exec_driver_sql(
            "UPDATE forecast_runs SET created_at = now() - interval '20 days'"
        )
    new_decision(control, runs[0])
    recent = save(store, result(SHARD)).id
    store.trim(timedelta(days=14))
    assert store.get(runs[0]).series == 2
    assert store.results(runs[0]) == {}
    for gone in runs[1:]:
        with pytest.raises(NotFound):
            store.get(gone)
    assert store.results(recent).keys() == {SHARD}
    store.trim(timedelta(0))  # the newest stays, however old
    assert store.newest() == store.get(recent)


def test_ten_thousand_series_take_seconds(store: ForecastStore) -> None:
    one = result(SHARD)
    many = [
        ForecastResult(
            SeriesKey(None, f"b{number:04}", "queries_per_s"), one.band, one.peak, one.model, one.weights,
            one.scores, one.coverage, one.trained_from, one.trained_to, one.points, one.note,
        )
        for number in range(10_000)
    ]  # fmt: skip
    started = time.monotonic()
    run = save(store, *many)
    assert time.monotonic() - started < 10.0  # on a busy machine; 0.4 s on an idle one
    assert len(store.results(run.id)) == len(store.before(HOUR)) == 10_000


OF_0009 = """
INSERT INTO forecast_runs (issued_at, horizon_hours, live_samples_used, series, seconds) VALUES (now(), 12, 0, 1, 1);
INSERT INTO forecast_bands (run_id, shard, bucket, metric, model, points, note, band)
    VALUES (1, 'one', '', 'cpu_cores', 'prophet', 9, '', '{"ts": [], "quantiles": []}');
"""


def test_forecasts_of_the_revision_before_stay_without_their_bands(control_dsn: str) -> None:
    config = Config()
    config.set_main_option("script_location", "foreshard:control/alembic")
    with closing(ControlDatabase(control_dsn)) as control:
        with control.engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "0009")
            connection.exec_driver_sql(OF_0009)
        control.migrate()
        store = ForecastStore(control)
        assert (store.get(1).step, store.get(1).horizon_hours) == (HOUR, 12)
        assert store.newest() is None  # nothing to decide on until the next one
        new_decision(control, save(store).id)
        with control.engine.begin() as connection:
            config.attributes["connection"] = connection
            command.downgrade(config, "0009")
        control.migrate()
        assert store.get(2).series == 2
