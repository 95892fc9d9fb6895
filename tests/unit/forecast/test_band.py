from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from foreshard.errors import InvalidInput
from foreshard.forecast.band import QUANTILES, Band

HOURS = pd.date_range("2013-11-27", periods=3, freq="h", tz="UTC")
RISING = np.outer([1.0, 2.0, 3.0], np.linspace(0.5, 1.5, 7))


def test_answers_by_level() -> None:
    band = Band(HOURS, RISING)
    assert band.at(0.5).tolist() == [1.0, 2.0, 3.0]
    assert band.peak(0.95) == 4.5
    assert band.first_above(1.5, 0.5) == datetime(2013, 11, 27, 1, tzinfo=UTC)
    assert band.first_above(3.0, 0.5) is None


@pytest.mark.parametrize("level", [0.0, 0.8, 0.99, 1.0])
def test_a_level_that_was_not_forecast_is_refused(level: float) -> None:
    with pytest.raises(InvalidInput, match="quantile"):
        Band(HOURS, RISING).at(level)


@pytest.mark.parametrize(
    "bad",
    [RISING[:, :6], RISING[:2], RISING[:, ::-1], -RISING[:, ::-1], RISING * np.nan, RISING * np.inf],
    ids=["columns", "rows", "crossing", "negative", "nan", "infinite"],
)
def test_bad_quantiles_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(InvalidInput, match="quantiles"):
        Band(HOURS, bad)


@pytest.mark.parametrize(
    "ts", [HOURS[:0], HOURS.tz_localize(None), HOURS.tz_convert("America/New_York"), HOURS[::-1]]
)
def test_bad_steps_are_refused(ts: pd.DatetimeIndex) -> None:
    with pytest.raises(InvalidInput, match="ts"):
        Band(ts, np.ones((len(ts), len(QUANTILES))))
