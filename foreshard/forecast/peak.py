"""The largest load within a window: its distribution, and what it says of a capacity.

A band tells of each step by itself. Whether load exceeds a capacity at any of them is another question: the step with
the highest quantile may be fine while one of forty is not, and neighbouring steps miss together.
"""

from __future__ import annotations

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
        return float(above(self.values, capacity))


_E_FOLDS = float(np.log((1 - PEAK_LEVELS[-3]) / (1 - PEAK_LEVELS[-1])))
"""How often an exponential tail falls by e between the outermost level and the third."""


def above(values: Floats, capacity: float) -> Floats:
    """What ``Peak.above`` says of each of many distributions, ``values`` (..., 17); shape (...)."""
    levels = np.asarray(PEAK_LEVELS)
    first, last = values[..., 0], values[..., -1]
    right = np.clip((values <= capacity).sum(axis=-1), 1, len(levels) - 1)
    left = np.take_along_axis(values, right[..., None] - 1, axis=-1)[..., 0]
    width = np.take_along_axis(values, right[..., None], axis=-1)[..., 0] - left
    with np.errstate(over="ignore"):  # beyond the outermost levels, where it is not used
        share = np.divide(capacity - left, width, out=np.zeros_like(width), where=width > 0)
    within = 1.0 - (levels[right - 1] + np.clip(share, 0.0, 1.0) * (levels[right] - levels[right - 1]))
    high = np.maximum(LEAST, (1 - levels[-1]) * _tail(capacity - last, last - values[..., -3]))
    low = np.minimum(1 - LEAST, 1 - levels[0] * _tail(first - capacity, values[..., 2] - first))
    found: Floats = np.where(capacity >= last, high, np.where(capacity < first, low, within))
    return np.where(first == last, first > capacity, found)


WIDEST = 20.0
"""A spread that is told; of loads that are commonly nothing it has no bound."""
HALF, HIGH = PEAK_LEVELS.index(0.5), PEAK_LEVELS.index(0.9)


def spread(half: Floats, high: Floats) -> Floats:
    """How uncertain peaks are, by their quantiles at levels .5 and .9: what the latter is above the former, as a share.

    At most ``WIDEST``; of a load that is nothing at either, 0.
    """
    found: Floats = np.divide(
        high - half, half, out=np.where(high > half, WIDEST, 0.0), where=half > high / (1 + WIDEST)
    )
    return found


def _tail(beyond: Floats, width: Floats) -> Floats:
    """What is left of a tail so far ``beyond`` the outermost level; ``width``: from there to the third level."""
    with np.errstate(over="ignore"):  # infinitely many folds leave nothing
        folds = np.divide(np.maximum(beyond, 0.0), width, out=np.zeros_like(width), where=width > 0)
    left: Floats = np.where(width > 0, np.exp(-_E_FOLDS * folds), beyond <= 0)
    return left
