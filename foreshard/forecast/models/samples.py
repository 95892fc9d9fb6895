"""What a global model is shown: series, origins and steps ahead, drawn from the past."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foreshard.forecast.models.windows import Indices
from foreshard.forecast.panel import DAY, HOUR, Panel

MOST_SERIES = 2_000
"""Series that are learnt from: of more, so many are drawn. Bounds the memory and the time of a fit."""

FIRST = 3
"""Days of a series before its first origin."""

NEWEST = 42
"""Days that origins are drawn from; below an hour, ``NEWEST_FINE``."""
NEWEST_FINE = 10


@dataclass(frozen=True, eq=False)
class Samples:
    """Arrays of the same length: the series' row, the origin (the first step that is not known) and how many steps
    ahead, 1 for the origin itself.
    """

    rows: Indices
    origins: Indices
    ahead: Indices

    @property
    def target(self) -> Indices:
        """The steps to be predicted."""
        return self.origins + self.ahead - 1


def of_present(panel: Panel, horizon: int) -> Samples:
    """Every series and step of the horizon at the panel's end."""
    rows, ahead = np.divmod(np.arange(len(panel.keys) * horizon), horizon)
    return Samples(rows, np.full(len(rows), panel.steps), ahead + 1)


def few_enough(panel: Panel, rng: np.random.Generator) -> Panel:
    """The panel, or of one with more than ``MOST_SERIES`` some of them, and no more of its past than is learnt from."""
    panel = panel.last((newest_days(panel) + 21) * panel.day)
    if len(panel.keys) <= MOST_SERIES:
        return panel
    return panel.rows(np.sort(rng.choice(len(panel.keys), MOST_SERIES, replace=False)))


def newest_days(panel: Panel) -> int:
    """Days that origins are drawn from."""
    return NEWEST if panel.step >= HOUR else NEWEST_FINE


def draw(panel: Panel, horizon: int, count: int, rng: np.random.Generator) -> Samples:
    """At most ``count`` samples whose target is known and lies in the panel; every series is drawn equally often."""
    known = np.isfinite(panel.values)
    first = np.where(known.any(axis=1), known.argmax(axis=1), panel.steps) + FIRST * panel.day
    first = np.maximum(first, panel.steps - newest_days(panel) * (DAY // panel.step))
    rows = np.flatnonzero(first < panel.steps)
    if not len(rows):
        nothing = np.zeros(0, np.int64)
        return Samples(nothing, nothing, nothing)
    rows = rng.choice(rows, 2 * count)
    ahead = rng.integers(1, horizon + 1, len(rows))
    target = first[rows] + (rng.random(len(rows)) * (panel.steps - first[rows])).astype(np.int64)
    origins = target - ahead + 1
    usable = np.flatnonzero((origins >= first[rows]) & known[rows, target])[:count]
    return Samples(rows[usable], origins[usable], ahead[usable])
