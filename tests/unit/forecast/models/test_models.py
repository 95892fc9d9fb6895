"""What every model keeps to."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from importlib.util import find_spec

import numpy as np
import pytest

from foreshard.forecast.models.ets import Ets
from foreshard.forecast.models.lightgbm import Lightgbm
from foreshard.forecast.models.lightgbm_direct import LightgbmDirect
from foreshard.forecast.models.lstm import Lstm
from foreshard.forecast.models.model import Fitted, Model
from foreshard.forecast.models.prophet import ProphetModel
from foreshard.forecast.models.seasonal_naive import SeasonalNaive
from foreshard.forecast.panel import Panel
from foreshard.forecast.series import SeriesKey

HORIZON = 12
STEPS = 24 * 21
LATER = 24 * 20  # where what the fit knows ends

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed (make lstm)")


class SmallDirect(LightgbmDirect):
    """Grown in a moment."""

    growth = replace(LightgbmDirect.growth, rounds=50, learning_rate=0.15)
    samples = 12_000


class SmallTrees(Lightgbm):
    """Grown in a moment."""

    growth = replace(Lightgbm.growth, rounds=40, learning_rate=0.15)
    samples = 12_000


NAIVE = SeasonalNaive()
MODELS = [
    pytest.param(NAIVE, id="seasonal_naive"),
    pytest.param(Ets(), id="ets"),
    pytest.param(ProphetModel(), id="prophet"),
    pytest.param(SmallDirect(), id="lightgbm_direct"),
    pytest.param(SmallTrees(), id="lightgbm"),
    pytest.param(Lstm(epochs=6, windows=2_500), id="lstm", marks=needs_torch),
]
LOCAL = {"seasonal_naive", "ets", "prophet"}
"""Models that fit each series by itself."""

GOOD = 6


@pytest.fixture(scope="module")
def values(daily: Callable[..., np.ndarray]) -> np.ndarray:
    """Six good series, and then bad ones."""
    good = daily(GOOD, STEPS)
    nothing = np.full(STEPS, np.nan)
    three_points = nothing.copy()
    three_points[[LATER - 30, LATER - 6, LATER - 5]] = 7.0
    all_zero = np.zeros(STEPS)
    constant = np.full(STEPS, 42.0)
    huge_gaps = daily(1, STEPS, seed=4)[0]
    huge_gaps[50:200] = huge_gaps[300:345] = np.nan
    outlier = daily(1, STEPS, seed=5)[0]
    outlier[400] = 1e12
    negative = daily(1, STEPS, seed=6)[0]
    negative[100:103] = -5.0
    infinite = daily(1, STEPS, seed=7)[0]
    infinite[401] = np.inf
    idle = daily(1, STEPS, seed=8)[0] * (np.arange(STEPS) % 24 < 2)
    bad = [nothing, three_points, all_zero, constant, huge_gaps, outlier, negative, infinite, idle]
    return np.vstack([good, *bad])


@pytest.fixture(scope="module")
def panel(make_panel: Callable[..., Panel], values: np.ndarray) -> Panel:
    return make_panel(values)


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Model:
    chosen: Model = request.param
    return chosen


@pytest.fixture(scope="module")
def fitted(model: Model, panel: Panel) -> Fitted:
    """Fitted to what was known a day before the panel's end."""
    return model.fit(panel.until(LATER), HORIZON, 1)


def is_a_band(quantiles: np.ndarray) -> bool:
    return bool(
        np.isfinite(quantiles).all() and (quantiles >= 0).all() and (np.diff(quantiles, axis=-1) >= 0).all()
    )


def test_every_series_has_a_band_or_is_refused_with_a_reason(fitted: Fitted, panel: Panel) -> None:
    quantiles = fitted.predict(panel.until(LATER), HORIZON)
    assert quantiles.shape == (len(panel.keys), HORIZON, 7)
    for key, of_series in zip(panel.keys, quantiles, strict=True):
        if key in fitted.refused:
            assert np.isnan(of_series).all()
            assert len(fitted.refused[key]) > 10
        else:
            assert is_a_band(of_series), key


def test_only_what_cannot_be_learnt_is_refused(model: Model, fitted: Fitted) -> None:
    refused = {key.bucket for key in fitted.refused}
    few = {"seasonal_naive": set(), "ets": {"b7"}, "prophet": {"b7"}}
    assert refused == {f"b{GOOD}"} | few.get(model.name, set())


def test_a_shorter_horizon_and_a_later_panel_need_no_fit(fitted: Fitted, panel: Panel) -> None:
    later = fitted.predict(panel.until(LATER + 7), HORIZON - 5)
    assert later.shape == (len(panel.keys), HORIZON - 5, 7)
    assert is_a_band(later[:GOOD])
    assert is_a_band(fitted.predict(panel.last(24 * 9), HORIZON)[:GOOD]), "history may have been cut off"


def test_some_series_in_another_order_are_predicted_alike(fitted: Fitted, panel: Panel) -> None:
    rows = np.array([4, 0, 9])
    some = fitted.predict(panel.rows(rows), HORIZON)
    assert some == pytest.approx(fitted.predict(panel, HORIZON)[rows], rel=1e-4)


def test_what_comes_after_the_end_cannot_matter(model: Model, fitted: Fitted, panel: Panel) -> None:
    """Nor does anything but the seed: the second fit gives what the first gave."""
    poisoned = panel.values.copy()
    poisoned[:, LATER:] = 1e9
    known = panel.with_values(poisoned).until(LATER)
    again = model.fit(known, HORIZON, 1).predict(known, HORIZON)
    assert np.array_equal(again, fitted.predict(panel.until(LATER), HORIZON), equal_nan=True)


def test_bad_series_change_nothing_of_the_others(model: Model, fitted: Fitted, panel: Panel) -> None:
    if model.name not in LOCAL:
        pytest.skip("a global model learns from all series together")
    good = panel.until(LATER).rows(np.arange(GOOD))
    alone = model.fit(good, HORIZON, 1).predict(good, HORIZON)
    assert np.array_equal(alone, fitted.predict(panel.until(LATER), HORIZON)[:GOOD])


def test_a_series_it_never_saw(model: Model, fitted: Fitted, panel: Panel) -> None:
    unknown = replace(
        panel.rows(np.array([0])), keys=(SeriesKey(shard="s1", bucket=None, metric="queries_per_s"),)
    )
    quantiles = fitted.predict(unknown, HORIZON)
    if model.name in {"ets", "prophet"}:
        assert np.isnan(quantiles).all()
    else:
        assert is_a_band(quantiles)


def test_it_travels_between_processes(fitted: Fitted, panel: Panel) -> None:
    there: Fitted = pickle.loads(pickle.dumps(fitted))
    assert there.refused == fitted.refused
    assert np.array_equal(there.predict(panel, 3), fitted.predict(panel, 3), equal_nan=True)


@pytest.mark.parametrize("minutes", [5, 15])
def test_steps_below_an_hour(
    model: Model, daily: Callable[..., np.ndarray], make_panel: Callable[..., Panel], minutes: int
) -> None:
    day = 24 * 60 // minutes
    fine = make_panel(daily(2, 15 * day, day=day), step=timedelta(minutes=minutes))
    fine.values[0, -day : -day // 2] = np.nan
    known = fine.until(fine.steps - 3)
    fitted = model.fit(known, HORIZON, 1)
    assert is_a_band(fitted.predict(fine, HORIZON))
    near = fitted.predict(known, 3)[..., 3]
    assert near == pytest.approx(fine.values[:, -3:], rel=0.6)


def test_a_daily_curve_is_recovered_from_noise(
    model: Model, daily: Callable[..., np.ndarray], make_panel: Callable[..., Panel]
) -> None:
    """A day's noise differs from the last one's; who averages over days halves what the seasonal naive is off by."""
    panel = make_panel(daily(24, STEPS))
    known, truth = panel.until(STEPS - 24), panel.values[:, -24:]
    quantiles = model.fit(known, 24, 1).predict(known, 24)
    covered = (quantiles[..., 0] <= truth) & (truth <= quantiles[..., -1])
    assert 0.80 <= covered.mean() <= 0.97
    if model is not NAIVE:
        naive = NAIVE.fit(known, 24, 1).predict(known, 24)
        assert np.abs(quantiles[..., 3] - truth).mean() < 0.85 * np.abs(naive[..., 3] - truth).mean()


@pytest.mark.parametrize("gap", [slice(-1, None), slice(-5, None), slice(-30, -20)])
def test_a_gap_at_the_end_is_not_taken_for_idleness(
    model: Model, fitted: Fitted, panel: Panel, gap: slice
) -> None:
    """A sample is late, or collection stood still: nothing of the kind was there while the model learnt."""
    good = panel.until(LATER).rows(np.arange(GOOD))
    values = good.values.copy()
    values[:, gap] = np.nan
    whole, holed = fitted.predict(good, HORIZON), fitted.predict(good.with_values(values), HORIZON)
    assert holed[..., 3].mean() == pytest.approx(whole[..., 3].mean(), rel=0.12), model.name
