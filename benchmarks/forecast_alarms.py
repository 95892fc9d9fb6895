"""Alarms: how probable each model held it, at each judged origin, that load would exceed its 95th percentile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from benchmarks.forecast_champion import past_turns
from benchmarks.forecast_walk import Predictions, Walk
from foreshard.forecast.band import Floats
from foreshard.forecast.exceedance import PastWindows, peaks
from foreshard.forecast.panel import Panel


def alarms(
    walk: Walk,
    said: Mapping[str, Predictions],
    horizons: Sequence[int],
    prepare: Callable[[Panel], Panel],
) -> dict[tuple[str, int], Floats]:
    """Probabilities, shape (origins, series), by model and steps of the horizon; NaN where a model says nothing.

    From each model's bands, and from its earlier ones with what had come of them by then.
    """
    found = {(name, steps): np.full(walk.judged.shape, np.nan) for name in said for steps in horizons}
    for turn in np.flatnonzero(walk.judged.any(axis=1)).tolist():
        seen = prepare(walk.grid.history.seen(int(walk.origins[turn])))
        earlier = past_turns(walk, turn)
        come = walk.come(earlier, turn)
        for name, quantiles in said.items():
            known = walk.judged[turn] & np.isfinite(quantiles[turn]).all(axis=(1, 2))
            rows = np.flatnonzero(known & np.isfinite(walk.threshold[turn]))
            past = quantiles[earlier][:, rows].astype(float)
            for steps in horizons if len(rows) else ():
                windows = PastWindows(
                    walk.origins[earlier].tolist(), past[:, :, :steps], come[:, rows, :steps]
                )
                now = quantiles[turn, rows, :steps].astype(float)
                for row, peak in zip(
                    rows, peaks(seen.rows(rows), now, windows if earlier else None), strict=True
                ):
                    found[name, steps][turn, row] = peak.above(float(walk.threshold[turn, row]))
    return found
