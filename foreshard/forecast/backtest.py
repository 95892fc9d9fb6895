"""What candidates would have said at past origins, each from what was known then."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np

from foreshard.forecast.band import QUANTILES, Floats
from foreshard.forecast.history import History
from foreshard.forecast.models.model import Fitted, Model
from foreshard.forecast.panel import DAY, HOUR, Panel, Rows

ORIGINS = 24
"""Past origins that a model is judged and a band calibrated by: each costs every candidate a forecast."""
WINDOW = 7 * DAY
WINDOW_FINE = 2 * DAY
"""How far back the first of them lies, by the hour and below; never more than a quarter of the history."""


def past_origins(panel: Panel, horizon: int, count: int = ORIGINS) -> tuple[int, ...]:
    """``count`` steps at which forecasts would have been issued, oldest first; none if the history is shorter than two
    days.

    They are not a whole number of days apart, so that all hours of the day are among them; the newest have only a part
    of their truth yet.
    """
    window: timedelta = max(WINDOW if panel.step >= HOUR else WINDOW_FINE, 2 * horizon * panel.step)
    steps = min(window // panel.step, panel.steps // 4)
    if panel.steps < 2 * panel.day or steps < count:
        return ()
    apart = -(-steps // count)
    if apart % panel.day == 0:
        apart -= 1
    return tuple(panel.steps - apart * back for back in range(count, 0, -1))


def by_one_fit(fitted: Fitted, history: History, origins: Sequence[int], horizon: int) -> Floats:
    """Predictions at ``origins`` by a fit made no later than the first of them; (origins, series, horizon, 7)."""
    return np.stack([fitted.predict(history.seen(origin), horizon) for origin in origins])


def by_local_fits(
    model: Model, history: History, origins: Sequence[int], horizon: int, rows: Rows, fits: int, seed: int
) -> Floats:
    """The same of a local model, fitted ``fits`` times on the way; NaN of all series but ``rows``."""
    shape = (len(origins), len(history.panel.keys), horizon, len(QUANTILES))
    predicted = np.full(shape, np.nan)
    if not len(rows):
        return predicted
    some = History(history.panel.rows(rows))
    for part in np.array_split(np.arange(len(origins)), fits):
        fitted = model.fit(some.seen(origins[part[0]]), horizon, seed)
        predicted[part[0] : part[-1] + 1, rows] = by_one_fit(
            fitted, some, [origins[turn] for turn in part], horizon
        )
    return predicted
