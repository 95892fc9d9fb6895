"""Alarms: how probable each model held it, at each judged origin, that load would exceed its 95th percentile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.forecast_walk import Cost, Predictions, Walk, cpu
from foreshard.forecast.band import Floats
from foreshard.forecast.exceedance import PastWindows, peaks
from foreshard.forecast.panel import Panel

PAST = 24
"""Windows that a peak's distribution is learnt from."""


@dataclass(frozen=True)
class Alarms:
    """``probability``, shape (origins, series), NaN where none was said, by model and steps of the horizon; ``costs``
    by model.
    """

    probability: dict[tuple[str, int], Floats] = field(default_factory=dict)
    costs: dict[str, Cost] = field(default_factory=dict)


def alarms(
    walk: Walk,
    said: Mapping[str, Floats | Predictions],
    horizons: Sequence[int],
    prepare: Callable[[Panel], Panel],
) -> Alarms:
    """From each model's bands, and from its earlier ones with what had come of them by then."""
    shape = walk.judged.shape
    found = Alarms(
        {(name, steps): np.full(shape, np.nan) for name in said for steps in horizons},
        {name: Cost() for name in said},
    )
    for turn in np.flatnonzero(walk.judged.any(axis=1)).tolist():
        seen = prepare(walk.grid.history.seen(int(walk.origins[turn])))
        earlier = slice(max(0, turn - PAST), turn)
        come = walk.come(earlier, turn)
        for name, quantiles in said.items():
            before = cpu()
            known = walk.judged[turn] & np.isfinite(quantiles[turn]).all(axis=(1, 2))
            rows = np.flatnonzero(known & np.isfinite(walk.threshold[turn]))
            past = quantiles[earlier][:, rows].astype(float)
            for steps in horizons if len(rows) else ():
                windows = PastWindows(
                    walk.origins[earlier].tolist(), past[:, :, :steps], come[:, rows, :steps]
                )
                now = quantiles[turn, rows, :steps].astype(float)
                for row, peak in zip(rows, peaks(seen.rows(rows), now, windows), strict=True):
                    found.probability[name, steps][turn, row] = peak.above(float(walk.threshold[turn, row]))
            found.costs[name].seconds += cpu() - before
            found.costs[name].series += len(rows)
    return found
