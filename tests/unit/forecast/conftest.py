"""Made-up load with the shape of real load: two peaks a day of the wall clock, quieter weekends, noise."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

MakeLoad = Callable[..., "pd.Series[float]"]


@pytest.fixture(scope="session")
def new_york() -> ZoneInfo:
    return ZoneInfo("America/New_York")


@pytest.fixture(scope="session")
def start() -> datetime:
    """The first hour to forecast; the six weeks before it hold the end of summer time, 3 November 2013."""
    return datetime(2013, 11, 26, 18, tzinfo=UTC)


@pytest.fixture(scope="session")
def make_load(new_york: ZoneInfo, start: datetime) -> MakeLoad:
    """``make_load(hours, level=, seed=, begin=)``: hourly, up to ``start`` unless it begins elsewhere."""

    def make(
        hours: int = 1008, *, level: float = 50.0, seed: int = 1, begin: datetime | None = None
    ) -> pd.Series[float]:
        first = pd.Timestamp(begin) if begin else pd.Timestamp(start) - pd.Timedelta(hours=hours)
        index = pd.date_range(first, periods=hours, freq="h")
        local = index.tz_convert(new_york)
        hour = local.hour.to_numpy()
        daily = 0.3 + np.exp(-(((hour - 9) / 3) ** 2)) + 1.3 * np.exp(-(((hour - 18) / 3) ** 2))
        weekly = np.where(local.dayofweek.to_numpy() < 5, 1.0, 0.8)
        noise = np.random.default_rng(seed).lognormal(0, 0.08, hours)
        return pd.Series(level * daily * weekly * noise, index=index)

    return make
