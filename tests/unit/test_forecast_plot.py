"""Forecasts drawn: as a picture, and with characters."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from foreshard.forecast.band import Band
from foreshard.forecast.peak import PEAK_LEVELS, Peak
from foreshard.forecast.result import ForecastResult
from foreshard.forecast.series import SeriesKey
from foreshard.forecast_plot import ForecastPicture, Relieved, forecast_png, shown_history
from foreshard.forecast_text_plot import CAPACITY, MEDIAN, NOTHING, text_plot
from foreshard.quantities import chance

NOW = datetime(2026, 3, 2, 18, tzinfo=UTC)
SPREAD = np.array([0.5, 0.6, 0.8, 1.0, 1.2, 1.4, 1.5])


def with_plans(drawn: ForecastPicture, *plans: int) -> ForecastPicture:
    """Half of it taken away, as of the forecast's sixth hour."""
    done_at = drawn.starts_at + timedelta(hours=6)
    return replace(drawn, relieved=Relieved(plans, drawn.result.band.at(drawn.level) / 2, done_at))


def picture(
    step: timedelta, steps: int, *, hours: int = 48, capacity: float | None = 120.0, gap: int = 6
) -> ForecastPicture:
    """A history of 50 to 70 with a gap of so many hours, and a forecast that rises to 100."""
    known = int(timedelta(hours=hours) / step)
    values = 60 + 10 * np.sin(np.arange(known) / known * 4 * np.pi)
    begin = known // 3
    values[begin : begin + int(timedelta(hours=gap) / step)] = np.nan
    history = pd.Series(values, index=pd.date_range(NOW - known * step, periods=known, freq=step))
    median = np.linspace(60.0, 100.0, steps)
    band = Band(pd.date_range(NOW, periods=steps, freq=step), median[:, None] * SPREAD)
    peak = Peak(np.linspace(80.0, 150.0, len(PEAK_LEVELS)))
    key = SeriesKey("shard-1", None, "queries_per_s")
    result = ForecastResult(key, band, peak, "ets", {}, {}, 0.9, None, None, known, "")
    return ForecastPicture(result, history, step, capacity, "Europe/Berlin", 0.9)


@pytest.mark.parametrize(
    "drawn",
    [
        picture(timedelta(hours=1), 24),
        picture(timedelta(hours=1), 24 * 7, capacity=None),
        picture(timedelta(minutes=5), 3, hours=6, gap=0),
        picture(timedelta(minutes=15), 1, hours=0),
        with_plans(picture(timedelta(hours=1), 24), 3),
        with_plans(picture(timedelta(minutes=15), 1, hours=0), 3, 14),
    ],
)
def test_a_picture_is_small_whatever_is_in_it(drawn: ForecastPicture) -> None:
    png = forecast_png(drawn)
    assert Image.open(BytesIO(png)).size == (720, 280)
    assert len(png) < 30_000
    lines = text_plot(drawn)
    assert {len(line.plain[:72]) for line in lines} == {72}


def test_the_plot_shows_history_gap_band_and_capacity() -> None:
    lines = [line.plain for line in text_plot(picture(timedelta(hours=1), 24))]
    bottom, axis = lines[-2], lines[-1]
    assert bottom[:48].count(NOTHING) == 6  # 72 hours in 72 columns
    assert bottom[0] == "█"
    assert axis.startswith("Sat 19:00")
    assert axis.index("│") == 48
    assert axis.endswith("Tue 19:00 Europe/Berlin")
    (limit,) = [line for line in lines if "capacity 120 queries/s" in line]
    assert limit.startswith(CAPACITY * 48)
    medians = [next(row for row, line in enumerate(lines) if line[at] == MEDIAN) for at in range(48, 72)]
    assert medians == sorted(medians, reverse=True)  # it rises
    assert medians[0] > medians[-1]


def test_a_plans_effect_is_drawn_from_when_it_is_done() -> None:
    plain = picture(timedelta(hours=1), 24)
    drawn = with_plans(plain, 3, 14)
    assert drawn.relieved is not None
    assert drawn.relieved.name == "plans 3, 14"
    before, then = (_green(forecast_png(one))[:200] for one in (plain, drawn))  # above the legend
    assert not before.any()
    columns = np.flatnonzero(then.any(axis=0))
    # 48 hours of history, 24 of forecast: the sixth hour of it is at three quarters.
    assert 0.70 * 720 < columns.min() < 0.80 * 720
    assert columns.max() > 0.97 * 720


def _green(png: bytes) -> NDArray[np.bool_]:
    """Which pixels are: rows, columns."""
    red, green, blue = np.moveaxis(np.asarray(Image.open(BytesIO(png)).convert("RGB")).astype(int), 2, 0)
    return np.asarray((green > blue) & (green > red + 20))


def test_what_is_said_of_the_capacity() -> None:
    drawn = picture(timedelta(hours=1), 24)
    assert drawn.excess_at is not None
    assert drawn.risk == pytest.approx(drawn.result.peak.above(120.0))
    free = picture(timedelta(hours=1), 24, capacity=None)
    assert (free.excess_at, free.risk) == (None, None)
    said = [chance(risk) for risk in (0.0, 0.0001, 0.372, 0.9999, 1.0)]
    assert said == ["0 %", "<1 %", "37 %", ">99 %", "100 %"]


def test_a_short_forecast_has_a_short_history_before_it() -> None:
    spans = [shown_history(timedelta(hours=hours)) for hours in (0.25, 6, 24, 336)]
    assert spans == [timedelta(hours=6), timedelta(hours=24), timedelta(days=4), timedelta(days=4)]
