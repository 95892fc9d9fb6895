from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pytest

from foreshard.forecast.models.ets import Ets
from foreshard.forecast.panel import Panel

MakePanel = Callable[..., Panel]
MEDIAN = 3


def test_a_trend_goes_on(make_panel: MakePanel) -> None:
    hours = np.arange(24 * 14)
    noise = np.random.default_rng(1).normal(0, 1, len(hours))
    rising = 50 + 0.5 * hours + 10 * np.sin(2 * np.pi * hours / 24) + noise
    panel = make_panel(rising[None])
    predicted = Ets().fit(panel.until(24 * 13), 24, 1).predict(panel.until(24 * 13), 24)[0, :, MEDIAN]
    assert predicted.mean() == pytest.approx(rising[-24:].mean(), rel=0.03)  # yesterday's: 6 % less


def test_a_level_without_trend_stays(make_panel: MakePanel) -> None:
    noise = np.random.default_rng(2).normal(0, 5, (1, 24 * 14))
    panel = make_panel(100 + noise)
    assert Ets().fit(panel, 24, 1).predict(panel, 24)[0, :, MEDIAN] == pytest.approx(100, rel=0.05)


def test_a_later_panel_moves_the_level_but_not_the_season(make_panel: MakePanel) -> None:
    hours = np.arange(24 * 16)
    level = np.exp(np.cumsum(np.random.default_rng(3).normal(0, 0.03, len(hours))))
    daily = 100 * level * (1 + 0.5 * np.sin(2 * np.pi * hours / 24))
    daily[24 * 14 :] *= 3.0
    panel = make_panel(daily[None])
    fitted = Ets().fit(panel.until(24 * 14), 24, 1)
    at = 24 * 15 + 7  # no whole number of days
    predicted = fitted.predict(panel.until(at), 12)[0, :, MEDIAN]
    assert predicted == pytest.approx(daily[at : at + 12], rel=0.2)
    cut_off = fitted.predict(panel.until(at).last(24 * 9), 12)[0, :, MEDIAN]
    assert cut_off == pytest.approx(predicted, rel=0.05)


def test_a_long_gap_is_filled_with_the_time_of_days_mean(make_panel: MakePanel) -> None:
    hours = np.arange(24 * 14)
    daily = 100 * (1 + 0.8 * np.sin(2 * np.pi * hours / 24)) + np.random.default_rng(4).normal(
        0, 2, len(hours)
    )
    truth = daily[-24:].copy()
    daily[24 * 10 - 9 : 24 * 11 + 3] = daily[-24 * 2 + 5 : -24] = np.nan
    panel = make_panel(daily[None]).until(24 * 13)
    predicted = Ets().fit(panel, 24, 1).predict(panel, 24)[0, :, MEDIAN]
    assert predicted == pytest.approx(truth, rel=0.25, abs=8)


def test_below_an_hour_there_is_no_season(make_panel: MakePanel) -> None:
    level = np.where(np.arange(288 * 3) < 288 * 2.5, 10.0, 30.0)
    panel = make_panel(
        level[None] + np.random.default_rng(5).normal(0, 0.5, 288 * 3), step=timedelta(minutes=5)
    )
    quantiles = Ets().fit(panel, 12, 1).predict(panel, 12)[0]
    assert quantiles[:, MEDIAN] == pytest.approx(30.0, rel=0.05)
    width = quantiles[:, -1] - quantiles[:, 0]
    assert (np.diff(width) >= 0).all()


def test_a_day_of_history_is_enough_for_a_level(make_panel: MakePanel) -> None:
    panel = make_panel(np.random.default_rng(6).normal(100, 3, (1, 24)))
    assert Ets().fit(panel, 6, 1).predict(panel, 6)[0, :, MEDIAN] == pytest.approx(100, rel=0.05)


def test_it_says_what_is_missing(make_panel: MakePanel) -> None:
    values = np.full((2, 100), np.nan)
    values[0, [0, 50, 99]] = 1.0
    fitted = Ets().fit(make_panel(values), 6, 1)
    assert list(fitted.refused.values()) == [
        "3 of 100 values are known, too few for exponential smoothing",
        "no value is known",
    ]
