from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.errors import InvalidInput
from foreshard.forecast.calendar import Event
from foreshard.forecast.forecaster import forecast_many, forecast_one
from foreshard.forecast.models.prophet import ProphetModel
from foreshard.forecast.result import ForecastResult
from foreshard.forecast.series import Series, SeriesKey

MakeLoad = Callable[..., "pd.Series[float]"]
KEY = SeriesKey("shard-1", None, "queries_per_s")


@pytest.fixture(scope="module")
def forecast(start: datetime, new_york: ZoneInfo) -> Callable[..., ForecastResult]:
    """``forecast(values, *events, at=, horizon=)``."""

    def run(
        values: pd.Series[float], *events: Event, at: datetime = start, horizon: int = 24
    ) -> ForecastResult:
        return forecast_one(Series(KEY, values), at, horizon, events, new_york, seed=1)

    return run


def check_band(result: ForecastResult, steps: int = 24) -> None:
    assert result.band.quantiles.shape == (steps, 7)
    assert np.isfinite(result.band.quantiles).all()
    assert (result.band.quantiles >= 0).all()
    assert (np.diff(result.band.quantiles, axis=1) >= 0).all()


def test_prophet_wins_on_load_with_a_rhythm(
    make_load: MakeLoad, forecast: Callable[..., ForecastResult], start: datetime
) -> None:
    history = make_load()
    result = forecast(history)
    check_band(result)
    assert (result.model, result.note, result.points) == ("prophet", "", 1008)
    assert result.score is not None
    assert result.score < 0.9
    assert result.band.ts[0] == pd.Timestamp(start)
    assert result.trained_to == start - timedelta(hours=1)
    actual = make_load(24, begin=start, seed=2).to_numpy()
    inside = (result.band.at(0.05) <= actual) & (actual <= result.band.at(0.95))
    assert inside.mean() >= 0.7
    assert np.abs(result.band.at(0.5) / actual - 1).mean() < 0.15


def test_peaks_follow_the_wall_clock_when_summer_time_ends(
    make_load: MakeLoad, forecast: Callable[..., ForecastResult]
) -> None:
    """The evening peak is at 22:00 UTC before 3 November and at 23:00 after it."""
    before = datetime(2013, 11, 2, 12, tzinfo=UTC)
    history = make_load(1008, begin=before - timedelta(hours=1008))
    band = forecast(history, at=before, horizon=48).band
    median = band.at(0.5)
    peaks = [band.ts[int(median[:24].argmax())], band.ts[24 + int(median[24:].argmax())]]
    assert [str(peak) for peak in peaks] == ["2013-11-02 22:00:00+00:00", "2013-11-03 23:00:00+00:00"]


def test_a_declared_event_multiplies_the_forecast(
    make_load: MakeLoad, forecast: Callable[..., ForecastResult], start: datetime
) -> None:
    history = make_load()
    sale = Event("sale", start + timedelta(hours=4), start + timedelta(hours=8), 1.35)
    ratio = forecast(history, sale).band.quantiles / forecast(history).band.quantiles
    assert ratio[4:8] == pytest.approx(1.35)
    assert np.delete(ratio, slice(4, 8), axis=0) == pytest.approx(1.0)


def test_an_event_under_way_is_not_counted_twice(
    make_load: MakeLoad, forecast: Callable[..., ForecastResult], start: datetime
) -> None:
    ordinary = make_load()
    sale = Event("sale", start - timedelta(hours=30), start + timedelta(hours=60), 2.0)
    seen = ordinary.where(ordinary.index < sale.starts_at, ordinary * 2.0)
    expected = 2.0 * forecast(ordinary).band.at(0.5)
    assert forecast(seen, sale).band.at(0.5) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (lambda load: load * 0, "constant"),
        (lambda load: load * 0 + 5, "constant"),
        (lambda load: load[-3:], "only 3 known hours"),
        (lambda load: load[-1:], "only 1 known hours"),
        (lambda load: load[:0], "no history"),
        (lambda load: load * np.nan, "no history"),
        (lambda load: load.where(np.arange(len(load)) % 100 == 0), "known hours"),
        (lambda load: load.where(np.arange(len(load)) != 500, -1.0), "negative values"),
        (lambda load: load[:-30], "older than the forecast's start"),
    ],
)
def test_a_bad_series_gets_a_band_and_a_note(
    make_load: MakeLoad,
    forecast: Callable[..., ForecastResult],
    bad: Callable[[pd.Series[float]], pd.Series[float]],
    said: str,
) -> None:
    result = forecast(bad(make_load()))
    check_band(result)
    assert said in result.note


def test_gaps_do_not_stop_prophet(make_load: MakeLoad, forecast: Callable[..., ForecastResult]) -> None:
    load = make_load()
    holed = load.where(np.random.default_rng(3).random(len(load)) > 0.2)
    result = forecast(holed.drop(holed.index[100:130]))
    check_band(result)
    assert result.model == "prophet"


def test_a_failing_fit_falls_back_and_says_so(
    make_load: MakeLoad, forecast: Callable[..., ForecastResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(ProphetModel, "fit_predict", fail)
    result = forecast(make_load())
    check_band(result)
    assert result.model == "seasonal_naive"
    assert "no such luck" in result.note


@settings(max_examples=40)
@given(
    values=st.lists(
        st.one_of(st.floats(0, 1e12), st.just(float("nan")), st.floats(-10, 0)), min_size=0, max_size=300
    )
)
def test_any_short_series_gets_a_band(
    forecast: Callable[..., ForecastResult], start: datetime, values: list[float]
) -> None:
    index = pd.date_range(
        pd.Timestamp(start) - pd.Timedelta(hours=len(values)), periods=len(values), freq="h"
    )
    check_band(forecast(pd.Series(values, index=index, dtype=float)))


def test_many_keep_their_order_repeat_exactly_and_leave_nothing_behind(
    make_load: MakeLoad,
    start: datetime,
    new_york: ZoneInfo,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    series = [Series(SeriesKey(None, f"b{n:04d}", "queries_per_s"), make_load(seed=n)) for n in range(4)]
    told: list[tuple[int, int]] = []
    caplog.set_level(logging.INFO)

    def run(workers: int) -> list[ForecastResult]:
        return forecast_many(
            series,
            start,
            24,
            [],
            new_york,
            seed=7,
            workers=workers,
            progress=lambda *done: told.append(done),
        )

    before = set(Path(tempfile.gettempdir()).glob("foreshard-fit-*"))
    one, two = run(1), run(2)
    assert [result.key for result in two] == [one.key for one in series]
    assert all(np.array_equal(a.band.quantiles, b.band.quantiles) for a, b in zip(one, two, strict=True))
    assert told == [(n, 4) for n in (1, 2, 3, 4)] * 2
    assert set(Path(tempfile.gettempdir()).glob("foreshard-fit-*")) == before
    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")


def test_fits_stay_silent_when_logging_is_configured_after_the_import(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`logging.config.dictConfig` enables every logger that it finds."""
    logger = logging.getLogger("cmdstanpy")
    monkeypatch.setattr(logger, "disabled", False)
    assert not logger.isEnabledFor(logging.ERROR)


def test_bad_questions_are_refused(start: datetime, new_york: ZoneInfo, make_load: MakeLoad) -> None:
    series = Series(KEY, make_load(48))
    with pytest.raises(InvalidInput, match="horizon_steps"):
        forecast_one(series, start, 0, [], new_york, seed=1)
    with pytest.raises(InvalidInput, match="starts_at"):
        forecast_one(series, start.replace(tzinfo=None), 24, [], new_york, seed=1)
    with pytest.raises(InvalidInput, match="workers"):
        forecast_many([series], start, 24, [], new_york, seed=1, workers=0)
