"""The seasonal naive: tomorrow at this hour is as today at this hour, give or take a day's usual change."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from foreshard.forecast.band import QUANTILES, Floats
from foreshard.forecast.models.model import from_root

_ENOUGH_CHANGES = 12  # changes from day to day below which an hour's spread is taken from all hours


class SeasonalNaive:
    """The fallback for any series, and the yardstick for every other model."""

    name = "seasonal_naive"

    def fit_predict(
        self, history: pd.Series[float], steps: pd.DatetimeIndex, timezone: ZoneInfo, seed: int
    ) -> Floats:
        """See ``Model.fit_predict``. Deterministic: ``seed`` changes nothing."""
        del seed
        known = history.dropna()
        root = np.sqrt(known.to_numpy(float))
        hour = _local_hour(pd.DatetimeIndex(known.index), timezone)
        # The last known value of each hour of day, so a gap reaches back to the day before.
        last = {int(h): value for h, value in zip(hour, root, strict=True)}
        day_changes, at_hour = _day_changes(root, hour)
        rows = []
        for step_hour in _local_hour(steps, timezone):
            near = np.isin(at_hour, [(step_hour - 1) % 24, step_hour, (step_hour + 1) % 24])
            changes = day_changes[near] if near.sum() >= _ENOUGH_CHANGES else day_changes
            spread = np.quantile(changes, QUANTILES) if len(changes) else np.zeros(len(QUANTILES))
            rows.append(last.get(int(step_hour), float(root[-1])) + spread)
        return from_root(np.asarray(rows))


def _local_hour(ts: pd.DatetimeIndex, timezone: ZoneInfo) -> Floats:
    return np.asarray(ts.tz_convert(timezone).hour)


def _day_changes(root: Floats, hour: Floats) -> tuple[Floats, Floats]:
    """Changes between consecutive known values of the same hour of day, and that hour."""
    changes: list[Floats] = []
    hours: list[Floats] = []
    for of_day in range(24):
        change = np.diff(root[hour == of_day])
        changes.append(change)
        hours.append(np.full(len(change), float(of_day)))
    return np.concatenate(changes), np.concatenate(hours)
