"""What a global model sees of a series at an origin: values and means of windows before it, in constant time each."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from foreshard.forecast.band import Floats
from foreshard.forecast.panel import Panel

Indices = npt.NDArray[np.int64]


class Windows:
    """Prefix sums over a panel, so that the mean of any window of any series is two look-ups.

    ``rows`` and steps of all methods are arrays of the same length (samples,); steps count from the panel's start and
    are clipped to it. Values are NaN where nothing is known. Memory: 64 bytes for each step of each series.
    """

    def __init__(self, panel: Panel, lag: int) -> None:
        values = panel.values.astype(np.float64)
        self._values = values
        self._known, self._sum = _prefix(values)
        self._squares = _prefix(values * values)[1]
        changed = np.full_like(values, np.nan)
        changed[:, lag:] = np.abs(values[:, lag:] - values[:, :-lag])
        self._changes, self._change = _prefix(changed)
        self._steps = panel.steps
        step = np.arange(panel.steps)
        newest = np.maximum.accumulate(np.where(np.isfinite(values), step, -1), axis=1)
        self._newest = np.where(step - newest <= panel.day, newest, -1)

    def at(self, rows: Indices, steps: Indices) -> Floats:
        """The value at a step; NaN before the panel's start and behind its end."""
        inside = (steps >= 0) & (steps < self._steps)
        found: Floats = np.where(inside, self._values[rows, np.where(inside, steps, 0)], np.nan)
        return found

    def recent(self, rows: Indices, steps: Indices) -> Floats:
        """The value at a step or, of a gap, the last one known within the day before it.

        A gap that trees have not seen while they learnt is read as zero: a shard whose last sample is late would be
        forecast as if it stood still.
        """
        inside = (steps >= 0) & (steps < self._steps)
        newest = np.where(inside, self._newest[rows, np.where(inside, steps, 0)], -1)
        return self.at(rows, newest)

    def mean(self, rows: Indices, first: Indices, until: Indices) -> Floats:
        """Mean of what is known of the steps ``first`` .. ``until - 1``."""
        first, until = self._clip(first), self._clip(until)
        return _mean(self._sum[rows, until] - self._sum[rows, first], self.known(rows, first, until))

    def spread(self, rows: Indices, first: Indices, until: Indices) -> Floats:
        """Standard deviation of what is known of them."""
        first, until = self._clip(first), self._clip(until)
        mean = self.mean(rows, first, until)
        square = _mean(
            self._squares[rows, until] - self._squares[rows, first], self.known(rows, first, until)
        )
        spread: Floats = np.sqrt(np.maximum(square - mean * mean, 0.0))
        return spread

    def change(self, rows: Indices, first: Indices, until: Indices) -> Floats:
        """Mean absolute difference of those steps from the steps ``lag`` before them."""
        first, until = self._clip(first), self._clip(until)
        return _mean(
            self._change[rows, until] - self._change[rows, first],
            self._changes[rows, until] - self._changes[rows, first],
        )

    def known(self, rows: Indices, first: Indices, until: Indices) -> Floats:
        """How many of them are known."""
        count: Floats = self._known[rows, self._clip(until)] - self._known[rows, self._clip(first)]
        return count

    def _clip(self, steps: Indices) -> Indices:
        return np.clip(steps, 0, self._steps)


def _prefix(values: Floats) -> tuple[Floats, Floats]:
    """Counts and sums of what is known before each step, shape (series, steps + 1)."""
    known = np.isfinite(values)
    start = np.zeros((len(values), 1))
    return (
        np.concatenate([start, known.cumsum(axis=1)], axis=1),
        np.concatenate([start, np.where(known, values, 0.0).cumsum(axis=1)], axis=1),
    )


def _mean(total: Floats, count: Floats) -> Floats:
    mean: Floats = total / np.where(count > 0, count, np.nan)
    return mean
