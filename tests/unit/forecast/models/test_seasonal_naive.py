from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from foreshard.forecast.models.seasonal_naive import NO_VALUES, SeasonalNaive
from foreshard.forecast.panel import Panel

MakePanel = Callable[..., Panel]
MEDIAN = 3


def predict(panel: Panel, horizon: int) -> np.ndarray:
    return SeasonalNaive().fit(panel, horizon, 1).predict(panel, horizon)


@pytest.mark.parametrize("minutes", [5, 15, 60])
def test_the_median_is_the_value_a_day_before(make_panel: MakePanel, minutes: int) -> None:
    day = 24 * 60 // minutes
    values = np.random.default_rng(1).gamma(4.0, 10.0, (3, 9 * day))
    quantiles = predict(make_panel(values, step=timedelta(minutes=minutes)), day)
    assert quantiles[..., MEDIAN] == pytest.approx(values[:, -day:], rel=1e-5)


def test_over_two_days_it_is_still_the_last_day_known_and_the_band_wider(make_panel: MakePanel) -> None:
    walk = 100 + np.cumsum(np.random.default_rng(2).normal(0, 1, (20, 24 * 40)), axis=1)
    quantiles = predict(make_panel(walk), 48)
    assert quantiles[:, 24:, MEDIAN] == pytest.approx(quantiles[:, :24, MEDIAN])
    width = quantiles[..., -1] - quantiles[..., 0]
    assert width[:, 24:].mean() > 1.2 * width[:, :24].mean()


def test_a_gap_reaches_back_to_the_day_before_up_to_a_week(make_panel: MakePanel) -> None:
    values = np.repeat(np.arange(1.0, 15.0), 24)[None].copy()  # as many as days have passed
    values[0, -24 + 5] = np.nan
    values[0, -48 + 6 :: 24] = np.nan
    values[0, 7::24] = np.nan
    median = predict(make_panel(values), 24)[0, :, MEDIAN]
    assert median[4:7] == pytest.approx([14.0, 13.0, 12.0])
    assert median[7] == pytest.approx(14.0), "this hour was never known: the newest value of all"


def test_the_wall_clock_counts_when_summer_time_ends(make_panel: MakePanel) -> None:
    # In New York 3 November 2013 has 25 hours.
    starts_at = datetime(2013, 10, 20, 4, tzinfo=UTC)
    steps = 24 * 14 + 12  # up to noon UTC of that day
    panel = make_panel(np.zeros((1, steps)), starts_at=starts_at)
    panel = Panel(panel.keys, panel.values, starts_at, panel.step, timezone=ZoneInfo("America/New_York"))
    hours = panel.wall_clock(0, steps).hour.to_numpy()
    quantiles = predict(panel.with_values(hours[None].astype(np.float32)), 24)
    assert quantiles[0, :, MEDIAN] == pytest.approx(panel.wall_clock(steps, steps + 24).hour.to_numpy())


def test_each_hour_has_the_spread_of_its_own_changes(make_panel: MakePanel) -> None:
    rng = np.random.default_rng(3)
    values = np.full((1, 24 * 40), 100.0)
    noon = np.arange(values.shape[1]) % 24 == 12
    values[0, noon] += rng.normal(0, 30, noon.sum())
    quantiles = predict(make_panel(values), 24)[0]
    assert quantiles[12, -1] - quantiles[12, 0] > 10
    assert quantiles[2, -1] - quantiles[2, 0] < 1


def test_three_points_have_a_band_and_none_are_refused(make_panel: MakePanel) -> None:
    values = np.full((2, 48), np.nan)
    values[0, [3, 40, 41]] = [5.0, 6.0, 9.0]
    panel = make_panel(values)
    fitted = SeasonalNaive().fit(panel, 24, 1)
    assert fitted.refused == {panel.keys[1]: NO_VALUES}
    quantiles = fitted.predict(panel, 24)
    assert np.isnan(quantiles[1]).all()
    assert (quantiles[0, :, 0] < quantiles[0, :, -1]).all()
    assert quantiles[0, 0, MEDIAN] == pytest.approx(9.0)


def test_an_empty_panel_is_refused_and_not_predicted(make_panel: MakePanel) -> None:
    panel = make_panel(np.empty((2, 0)))
    fitted = SeasonalNaive().fit(panel, 3, 1)
    assert set(fitted.refused) == set(panel.keys)
    assert np.isnan(fitted.predict(panel, 3)).all()
