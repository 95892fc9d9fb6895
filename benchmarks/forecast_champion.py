"""The forecast that would have been issued at each judged origin: selected, combined and calibrated as the forecaster
does it, from what the models had said at the origins before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.forecast_walk import Cost, Walk, cpu
from foreshard.forecast.backtest import WINDOW, WINDOW_FINE
from foreshard.forecast.band import QUANTILES, Floats
from foreshard.forecast.conformal import calibrate
from foreshard.forecast.exceedance import PastWindows, peaks
from foreshard.forecast.models.candidates import NAIVE
from foreshard.forecast.panel import HOUR, Panel
from foreshard.forecast.selection import combined, select


@dataclass(frozen=True, eq=False)
class Champion:
    """``quantiles``: (origins, series, horizon, 7); ``alarms``: by steps of the horizon, the probability of exceeding
    the threshold, (origins, series). NaN where a series is not judged.
    """

    quantiles: Floats
    alarms: dict[int, Floats]
    cost: Cost


def champion(
    walk: Walk, candidates: Sequence[str], horizons: Sequence[int], prepare: Callable[[Panel], Panel]
) -> Champion:
    """Of each origin, only by predictions of earlier origins and by as much of the truth as had come by then.

    ``candidates``: names of models that take part, the seasonal naive among them.
    """
    shape = walk.judged.shape
    found = Champion(
        np.full((*walk.truth.shape, len(QUANTILES)), np.nan),
        {steps: np.full(shape, np.nan) for steps in horizons},
        Cost(),
    )
    before: list[str | None] = [None] * shape[1]
    for turn in np.flatnonzero(walk.judged.any(axis=1)).tolist():
        rows = np.flatnonzero(walk.judged[turn])
        seen = prepare(walk.grid.history.seen(int(walk.origins[turn]))).rows(rows)
        earlier = past_turns(walk, turn)
        spent = cpu()
        origins = walk.origins[earlier].tolist()
        come = walk.come(earlier, turn)[:, rows]
        past = {name: walk.predictions[name][earlier][:, rows].astype(float) for name in candidates}
        now = {name: walk.predictions[name][turn, rows].astype(float) for name in candidates}
        age = (walk.origins[turn] - walk.origins[earlier]) / seen.day
        able = {name: np.isfinite(said).all(axis=(1, 2)) for name, said in now.items()}
        chosen = select(past, come, age, seen.day, NAIVE, [before[row] for row in rows], able)
        for row, name in zip(rows, chosen.champions, strict=True):
            before[row] = name
        present = np.nan_to_num(combined([now[name] for name in chosen.names], chosen.weights))
        issued = combined([past[name] for name in chosen.names], chosen.weights)
        calibrated = calibrate(issued, come, origins, present, seen)
        found.quantiles[turn, rows] = calibrated.quantiles
        for steps in horizons:
            windows = PastWindows(origins, calibrated.past[:, :, :steps], come[:, :, :steps])
            highest = peaks(seen, calibrated.quantiles[:, :steps], windows if origins else None)
            for row, peak in zip(rows, highest, strict=True):
                if np.isfinite(limit := walk.threshold[turn, row]):
                    found.alarms[steps][turn, row] = peak.above(float(limit))
        found.cost.seconds += cpu() - spent
        found.cost.series += len(rows)
    return found


def past_turns(walk: Walk, turn: int) -> list[int]:
    """Earlier origins of as long a time as the forecaster looks back, oldest first."""
    step = walk.grid.panel.step
    window = (WINDOW if step >= HOUR else WINDOW_FINE) // step
    earlier = np.flatnonzero(walk.origins >= walk.origins[turn] - window)
    return [int(each) for each in earlier if each < turn]
