from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest

from foreshard.forecast.calendar import Event, EventKind
from foreshard.forecast.models.prophet import RICHNESS, ProphetModel
from foreshard.forecast.panel import Panel

MakePanel = Callable[..., Panel]
MEDIAN = 3
DAY = timedelta(days=1)
WEEKS = 5
STEPS = 24 * 7 * WEEKS


def load(seed: int = 1, steps: int = STEPS) -> np.ndarray:
    """A daily curve, quiet at weekends."""
    hours = np.arange(steps)
    curve = 100 * (1 + 0.5 * np.sin(2 * np.pi * hours / 24)) * np.where(hours // 24 % 7 < 5, 1.0, 0.5)
    return curve * np.random.default_rng(seed).lognormal(0, 0.05, steps)


def holiday(name: str, starts_at: datetime, bucket: str | None = None) -> Event:
    buckets = None if bucket is None else frozenset([bucket])
    return Event(name, starts_at, starts_at + DAY, effect=None, buckets=buckets, kind=EventKind.HOLIDAY)


def predict(panel: Panel, horizon: int) -> np.ndarray:
    return ProphetModel().fit(panel, horizon, 1).predict(panel, horizon)


def test_it_tells_the_weekend_from_the_week(make_panel: MakePanel) -> None:
    friday_ends = STEPS - 2 * 24
    panel = make_panel(load()[None])
    predicted = predict(panel.until(friday_ends), 48)[0, :, MEDIAN]
    assert np.abs(predicted - panel.values[0, friday_ends:]).mean() < 15  # Friday's values: 46


def test_a_holiday_seen_once_is_known_the_next_time(make_panel: MakePanel) -> None:
    values = np.stack([load(1), load(2)])
    values[0, 24 * 15 : 24 * 16] *= 0.3  # a Tuesday
    panel = make_panel(values)
    holidays = (
        holiday("Founders' day 2024", panel.starts_at + 15 * DAY, "b0"),
        holiday("Founders' day 2025", panel.ends_at, "b0"),
        holiday("Never seen", panel.ends_at),
    )
    known = make_panel(values, events=holidays)
    with_holiday, without = predict(known, 24)[..., MEDIAN], predict(panel, 24)[..., MEDIAN]
    assert with_holiday[0].mean() < 0.5 * without[0].mean()
    assert np.array_equal(with_holiday[1], without[1]), "it does not concern this series"


def test_below_an_hour_the_curve_of_hourly_means_is_read_at_the_steps(make_panel: MakePanel) -> None:
    quarters = np.arange(96 * 21)
    fine = 100 * (1 + 0.5 * np.sin(2 * np.pi * (quarters + 0.5) / 96))
    panel = make_panel(fine[None], step=timedelta(minutes=15)).last(96 * 21 - 3)  # begins within an hour
    known = panel.until(panel.steps - 10)  # and ends in one
    predicted = predict(known, 10)[0, :, MEDIAN]
    assert predicted == pytest.approx(panel.values[0, -10:], rel=0.03)


def test_less_than_two_weeks_are_refused(make_panel: MakePanel) -> None:
    values = np.stack([load(steps=24 * 20), load(steps=24 * 20)])
    values[0, : 24 * 7] = np.nan
    panel = make_panel(values)
    fitted = ProphetModel().fit(panel, 24, 1)
    assert fitted.refused == {
        panel.keys[0]: "its history is 13.0 days long; Prophet needs 14 to tell weekdays apart"
    }
    assert np.isfinite(fitted.predict(panel, 24)[1]).all()


def test_it_is_richer_the_longer_its_history() -> None:
    days = [rich.days for rich in RICHNESS]
    assert days == sorted(days, reverse=True)
    for richer, poorer in pairwise(RICHNESS):
        assert richer.yearly >= poorer.yearly
        assert richer.daily >= poorer.daily
        assert richer.changepoints > poorer.changepoints


def test_two_years_have_a_yearly_curve(make_panel: MakePanel) -> None:
    days = np.arange(365 * 2 + 60)
    yearly = 100 * (1 + 0.5 * np.sin(2 * np.pi * days / 365.25))
    panel = make_panel(yearly[None], step=DAY)
    predicted = predict(panel.until(len(days) - 40), 40)[0, :, MEDIAN]
    assert predicted == pytest.approx(yearly[-40:], rel=0.1)


def test_the_curve_goes_on_behind_a_later_panel(make_panel: MakePanel) -> None:
    panel = make_panel(load()[None])
    fitted = ProphetModel().fit(panel.until(STEPS - 24 * 7), 24, 1)
    predicted = fitted.predict(panel.until(STEPS - 24), 24)[0, :, MEDIAN]
    assert np.abs(predicted - panel.values[0, -24:]).mean() < 8
