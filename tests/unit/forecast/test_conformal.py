from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pytest
from scipy.stats import norm

from foreshard.forecast.band import QUANTILES
from foreshard.forecast.conformal import Calibrated, calibrate
from foreshard.forecast.panel import HOUR, Panel
from foreshard.forecast.scores import coverage
from foreshard.forecast.series import SeriesKey

STEPS, HORIZON, EVERY = 24 * 40, 24, 6
ORIGINS = tuple(range(24 * 12, STEPS, EVERY))
SPREAD = norm.ppf(QUANTILES)


def issue(spread: float, level: float = 100.0, series: int = 6) -> np.ndarray:
    """The same band at every origin: ``spread`` times as wide as a standard normal about ``level``."""
    return np.broadcast_to(level + spread * SPREAD, (len(ORIGINS), series, HORIZON, 7)).copy()


@pytest.fixture
def panel(make_load_panel: Callable[[np.ndarray], Panel]) -> Panel:
    return make_load_panel(100 + 10 * np.random.default_rng(1).standard_normal((6, STEPS)))


@pytest.fixture
def make_load_panel() -> Callable[[np.ndarray], Panel]:
    def make(values: np.ndarray) -> Panel:
        keys = tuple(SeriesKey(None, f"b{row}", "queries_per_s") for row in range(len(values)))
        return Panel(keys, values.astype(np.float32), datetime(2026, 1, 5, tzinfo=UTC), HOUR)

    return make


def truth_of(panel: Panel) -> np.ndarray:
    truth = np.full((len(ORIGINS), len(panel.keys), HORIZON), np.nan)
    for turn, origin in enumerate(ORIGINS):
        came = panel.values[:, origin : origin + HORIZON]
        truth[turn, :, : came.shape[1]] = came
    return truth


def run(panel: Panel, spread: float) -> Calibrated:
    past = issue(spread)
    return calibrate(past, truth_of(panel), ORIGINS, past[0], panel)


@pytest.mark.parametrize("spread", [3.0, 5.0, 7.0])
def test_bands_too_narrow_come_to_cover_nearly_nine_tenths(panel: Panel, spread: float) -> None:
    raw = coverage(issue(spread), truth_of(panel)).mean()
    found = run(panel, spread)
    covered = coverage(found.past[-60:], truth_of(panel)[-60:])
    assert raw < 0.8, "the control: as the model said it, the band misses"
    assert abs(covered.mean() - 0.9) < 0.3 * abs(raw - 0.9)
    assert found.coverage == pytest.approx(coverage(found.past, truth_of(panel)))


def test_a_band_that_is_right_stays(panel: Panel) -> None:
    found = run(panel, 10.0)
    width = found.quantiles[..., 6] - found.quantiles[..., 0]
    assert width.mean() == pytest.approx(32.9, rel=0.1)
    assert coverage(found.past, truth_of(panel)).mean() == pytest.approx(0.9, abs=0.02)


def test_a_band_too_wide_is_narrowed(panel: Panel) -> None:
    found = run(panel, 30.0)
    width = found.quantiles[..., 6] - found.quantiles[..., 0]
    assert 33 < width.mean() < 80 < 99


def test_the_median_is_the_models_own(panel: Panel) -> None:
    assert run(panel, 3.0).quantiles[..., 3] == pytest.approx(100.0)


def test_after_a_change_of_noise_the_band_follows(make_load_panel: Callable[[np.ndarray], Panel]) -> None:
    noise = np.random.default_rng(2).standard_normal((6, STEPS))
    noise[:, 24 * 26 :] *= 3.0
    panel = make_load_panel(100 + 10 * noise)
    found, truth = run(panel, 10.0), truth_of(panel)
    raw = coverage(issue(10.0)[-28:], truth[-28:]).mean()
    covered = coverage(found.past[-28:], truth[-28:]).mean()
    assert raw < 0.5, "the control: an uncalibrated band misses"
    assert covered > 0.8


def test_only_truth_that_has_come_is_used(panel: Panel) -> None:
    truth, past = truth_of(panel), issue(5.0)
    honest = calibrate(past, truth, ORIGINS, past[0], panel)
    poisoned = truth.copy()
    turn = 50
    for later in range(len(ORIGINS)):
        come = ORIGINS[later] + np.arange(HORIZON) < ORIGINS[turn]
        poisoned[later][:, ~come] = 1e9
    spoilt = calibrate(past, poisoned, ORIGINS, past[0], panel)
    assert np.array_equal(spoilt.past[: turn + 1], honest.past[: turn + 1])
    assert not np.array_equal(spoilt.past[turn + 8], honest.past[turn + 8]), "later ones may see it"


def test_without_a_past_nothing_is_changed(panel: Panel) -> None:
    present = issue(10.0)[0]
    nothing = np.full((0, 6, HORIZON), np.nan)
    found = calibrate(np.full((0, 6, HORIZON, 7), np.nan), nothing, (), present, panel)
    assert found.quantiles == pytest.approx(present)
    assert np.isnan(found.coverage).all()


def test_gaps_and_constant_series_stay_in_order(panel: Panel) -> None:
    truth, past = truth_of(panel), issue(10.0)
    truth[:, 0] = np.nan
    past[:, 1] = 0.0
    truth[:, 1] = 0.0
    past[:30, 2] = np.nan
    found = calibrate(past, truth, ORIGINS, past[-1], panel)
    assert np.isfinite(found.quantiles).all()
    assert (found.quantiles >= 0).all()
    assert (np.diff(found.quantiles, axis=-1) >= 0).all()
    assert found.quantiles[1].max() < 1e-6
