from __future__ import annotations

import numpy as np
import pytest

from foreshard.forecast.backtest import Backtest
from foreshard.forecast.band import QUANTILES

LEVELS = np.asarray(QUANTILES)


def normal_band(steps: int, spread: float) -> np.ndarray:
    """Quantiles of roots spread normally about 10, as load."""
    z = np.array([-1.645, -1.282, -0.674, 0.0, 0.674, 1.282, 1.645])
    return np.tile((10.0 + spread * z) ** 2, (steps, 1))


def actual(steps: int = 48) -> np.ndarray:
    return (10.0 + np.random.default_rng(5).normal(0, 1.0, steps)) ** 2


def test_pinball_by_hand() -> None:
    test = Backtest(np.full((1, 7), 10.0), np.array([12.0]))
    assert test.pinball == pytest.approx(2.0 * LEVELS.mean())
    test = Backtest(np.full((1, 7), 10.0), np.array([7.0]))
    assert test.pinball == pytest.approx(3.0 * (1 - LEVELS).mean())


def test_a_band_that_was_too_narrow_is_widened_and_the_median_stays() -> None:
    narrow = normal_band(48, 0.2)
    corrected = Backtest(narrow, actual()).corrected(narrow)
    assert (corrected[:, :3] < narrow[:, :3]).all()
    assert (corrected[:, 4:] > narrow[:, 4:]).all()
    assert corrected[:, 3] == pytest.approx(narrow[:, 3])


def test_a_band_that_was_too_wide_is_narrowed() -> None:
    wide = normal_band(48, 5.0)
    corrected = Backtest(wide, actual()).corrected(wide)
    assert (corrected[:, 6] - corrected[:, 0] < wide[:, 6] - wide[:, 0]).all()


@pytest.mark.parametrize("spread", [0.0, 0.2, 1.0, 5.0, 9.0])
def test_corrected_bands_are_bands(spread: float) -> None:
    band = np.sort(np.maximum(normal_band(24, spread), 0), axis=1)
    corrected = Backtest(normal_band(48, spread), actual()).corrected(band)
    assert (corrected >= 0).all()
    assert (np.diff(corrected, axis=1) >= 0).all()
