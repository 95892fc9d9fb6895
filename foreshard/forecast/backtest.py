"""What a model would have said two days ago: its pinball loss, and what its misses say of its band."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from foreshard.forecast.band import QUANTILES, Floats
from foreshard.forecast.models.model import Model, from_root
from foreshard.forecast.series import STEP

HOLDOUT = timedelta(hours=48)

CORRECTION_STRENGTH = 0.5
"""Share of the conformal correction that is applied.

48 misses are few. On series made from the flights of 2013 (6 origins, 9 series) half the correction brought
the 5-95 % band from 88.9 to 91.3 % (buckets) and from 88.2 to 87.7 % (shards) of the actual values at the
same pinball loss; the whole of it lost 2 % on buckets, and correcting each level by itself up to 25 %.
"""


@dataclass(frozen=True, eq=False)
class Backtest:
    """Predicted quantiles (steps, 7) and actual values (steps,) of the held-out hours that are no gaps."""

    predicted: Floats
    actual: Floats

    @property
    def pinball(self) -> float:
        """Mean pinball loss over steps and quantiles, in the metric's unit."""
        miss = self.actual[:, None] - self.predicted
        levels = np.asarray(QUANTILES)
        return float(np.where(miss >= 0, levels * miss, (levels - 1.0) * miss).mean())

    def corrected(self, quantiles: Floats) -> Floats:
        """``quantiles`` (steps, 7), each pair of levels widened or narrowed by how the backtest missed.

        Conformalised quantile regression (Romano, Patterson, Candès 2019) on the root scale, where misses are
        of about the same size at all levels of load. The median stays.
        """
        root, predicted, actual = np.sqrt(quantiles), np.sqrt(self.predicted), np.sqrt(self.actual)
        for low in range(len(QUANTILES) // 2):
            high = len(QUANTILES) - 1 - low
            outside = np.maximum(predicted[:, low] - actual, actual - predicted[:, high])
            wanted = (QUANTILES[high] - QUANTILES[low]) * (1.0 + 1.0 / len(actual))
            change = CORRECTION_STRENGTH * float(np.quantile(outside, min(wanted, 1.0)))
            # A pair may narrow to the median, not past it.
            middle = root[:, len(QUANTILES) // 2]
            root[:, low] = np.minimum(root[:, low] - change, middle)
            root[:, high] = np.maximum(root[:, high] + change, middle)
        return from_root(root)


def backtest(model: Model, history: pd.Series[float], timezone: ZoneInfo, seed: int) -> Backtest | None:
    """The model trained without the last ``HOLDOUT`` of ``history`` (hourly, gaps as NaN), against that
    holdout.

    None if either part holds too little to say anything: a day of values in the holdout, a week before it.
    Raises what the model raises.
    """
    cut = history.index[-1] - HOLDOUT
    seen, held = history[history.index <= cut], history[history.index > cut].dropna()
    if len(held) < timedelta(days=1) / STEP or seen.count() < timedelta(days=7) / STEP:
        return None
    predicted = model.fit_predict(seen, pd.DatetimeIndex(held.index), timezone, seed)
    return Backtest(predicted, held.to_numpy(float))
