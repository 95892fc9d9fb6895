"""Direct multi-horizon quantile LightGBM in its plain form: the yardstick of the other global models.

One row for each series, origin and step ahead; features are lags, the target is load relative to last week's mean.
"""

from __future__ import annotations

import numpy as np

from foreshard.forecast.band import Floats
from foreshard.forecast.models.global_trees import Clock, GlobalTrees, Seen
from foreshard.forecast.models.quantile_trees import Growth
from foreshard.forecast.models.samples import FIRST, Samples
from foreshard.forecast.models.windows import Windows
from foreshard.forecast.panel import HOUR, Panel

_LAST = (1, 2, 3, 4, 6, 12, 24)


class LightgbmDirect(GlobalTrees):
    """Below one hour the target is the change from the last value, else log(1 + load / last week's mean)."""

    name = "lightgbm_direct"
    growth = Growth(rounds=200, learning_rate=0.05)
    samples = 60_000

    def see(self, panel: Panel, windows: Windows, samples: Samples, clock: Clock) -> Seen:
        """Horizon, hour, weekday, last values, the same hour of the last seven days, one and two weeks ago."""
        rows, origins, target, day = samples.rows, samples.origins, samples.target, panel.day
        mean = windows.mean(rows, origins - 7 * day, origins)
        scale = np.where(mean > 0, mean, 1.0)
        days_ahead = (samples.ahead - 1) // day + 1

        def seen(values: Floats) -> Floats:
            return np.log1p(np.maximum(values, 0.0) / scale)

        columns = [samples.ahead, clock.hour[target], clock.weekday[target]]
        columns += [seen(windows.recent(rows, origins - lag)) for lag in _LAST]
        same_time = np.stack([windows.at(rows, target - (days_ahead + back) * day) for back in range(7)])
        for back in range(
            FIRST
        ):  # always known while trees learnt, but for gaps: those they would read as zero
            same_time[back] = np.where(
                np.isnan(same_time[back]), np.nanmean(same_time, axis=0), same_time[back]
            )
        columns += [seen(values) for values in same_time]
        weeks_ahead = (samples.ahead - 1) // (7 * day) + 1
        columns += [seen(windows.at(rows, target - (weeks_ahead + back) * 7 * day)) for back in range(2)]
        base = np.zeros(len(rows))
        if panel.step < HOUR:
            base = seen(windows.recent(rows, origins - 1))
            base = np.where(np.isnan(base), np.log(2.0), base)
        return Seen(
            np.stack([column.astype(np.float32) for column in columns], axis=1),
            to_target=lambda load: seen(load) - base,
            to_load=lambda quantiles: np.expm1(np.maximum(quantiles + base[:, None], 0.0)) * scale[:, None],
        )
