"""The largest load within a window: its distribution, and what it says of a capacity.

A band tells of each step by itself. Whether load exceeds a capacity at any of them is another question: the step with
the highest quantile may be fine while one of forty is not, and neighbouring steps miss together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from foreshard.errors import InvalidInput
from foreshard.forecast.band import Floats

PEAK_LEVELS = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.2,
    0.3,
    0.4,
    0.5,
    0.6,
    0.7,
    0.8,
    0.9,
    0.95,
    0.975,
    0.99,
    0.995,
)
"""Levels of every peak's distribution."""

LEAST = 1e-4
"""The smallest probability that is said, and the smallest that is left to the contrary."""


@dataclass(frozen=True, eq=False)
class Peak:
    """``values``, shape (17,): quantiles of the window's largest load at ``PEAK_LEVELS``, in the metric's unit.

    Raises ``InvalidInput`` (field ``values``) unless they are finite, not below zero and do not cross.
    """

    values: Floats

    def __post_init__(self) -> None:
        if self.values.shape != (len(PEAK_LEVELS),) or not np.isfinite(self.values).all():
            raise InvalidInput("values", f"are not {len(PEAK_LEVELS)} finite numbers")
        if (self.values < 0).any() or (np.diff(self.values) < 0).any():
            raise InvalidInput("values", "are below zero or cross")

    def above(self, capacity: float) -> float:
        """Probability that load exceeds ``capacity`` at some step of the window, 0 to 1.

        Between levels by straight lines; where several levels have one value, the highest of them counts, since load
        of just the capacity does not exceed it. Beyond the outermost an exponential tail of the slope there. No
        forecast is certain: within 0.0001 and 0.9999 while the distribution has any width.
        """
        values, levels = self.values, np.asarray(PEAK_LEVELS)
        if values[0] == values[-1]:
            return float(values[0] > capacity)
        if capacity >= values[-1]:
            return max(LEAST, (1 - PEAK_LEVELS[-1]) * _tail(capacity - values[-1], values[-1] - values[-3]))
        if capacity < values[0]:
            return min(1 - LEAST, 1 - PEAK_LEVELS[0] * _tail(values[0] - capacity, values[2] - values[0]))
        right = int(np.searchsorted(values, capacity, side="right"))
        share = (capacity - values[right - 1]) / (values[right] - values[right - 1])
        return 1.0 - float(levels[right - 1] + share * (levels[right] - levels[right - 1]))


_E_FOLDS = float(np.log((1 - PEAK_LEVELS[-3]) / (1 - PEAK_LEVELS[-1])))
"""How often an exponential tail falls by e between the outermost level and the third."""


def _tail(beyond: float, width: float) -> float:
    """What is left of a tail so far ``beyond`` the outermost level; ``width``: from there to the third level."""
    return math.exp(-float(beyond) * _E_FOLDS / float(width)) if width > 0 else float(beyond <= 0)
