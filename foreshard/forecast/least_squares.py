"""A robust least squares fit with coefficients that are not negative and lie near an expected value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import nnls

HUBER = 2.0
"""Residuals beyond so many standard deviations count less."""

ROUNDS = 8

EXCHANGES = 10
"""So often coefficients are held at 0 or freed in blocks (Portugal, Júdice & Vicente 1994) before one by one."""

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class LeastSquares:
    """``y`` = a constant + ``columns`` (windows × coefficients) times coefficients, none of them negative.

    The coefficients are expected at ``expected``, give or take ``spread`` (a normal prior: ridge regression); the
    constant is free. ``weights`` of the windows are Huber's; ``noise`` is the variance of what a fit leaves.
    """

    columns: Floats
    y: Floats
    expected: float
    spread: float
    weights: Floats
    noise: float

    @classmethod
    def weighted(cls, columns: Floats, y: Floats, expected: float, spread: float) -> LeastSquares:
        """With weights and noise found by iteration: fit, weigh by what is left, fit again."""
        one = cls(columns, y, expected, spread, np.ones(len(y)), float(np.var(y)) / 20)
        for _ in range(ROUNDS):
            left = np.abs(y - one.told(one.solve()))
            # The median of absolute residuals, as a standard deviation; never quite 0, to divide by it.
            deviation = 1.4826 * float(np.median(left)) + 1e-9 * float(np.abs(y).mean()) + 1e-300
            weights = np.minimum(1.0, HUBER * deviation / np.maximum(left, 1e-300))
            one = cls(columns, y, expected, spread, weights, deviation**2)
        return one

    def solve(self, windows: Mask | None = None) -> Floats:
        """The constant, then the coefficients, learnt from those ``windows`` (None: from all)."""
        rows = np.ones(len(self.y), dtype=bool) if windows is None else windows
        x, y = _with_constant(self.columns[rows]), self.y[rows]
        # One unit for all columns, or the small ones would drown in the rounding of the large ones.
        scale = np.sqrt(np.mean(x**2, axis=0))
        scale[scale == 0] = 1.0
        x = x / scale
        pull = self.noise / self.spread**2 / scale**2
        pull[0] = 0.0
        weighted = x * self.weights[rows, None]
        gram = weighted.T @ x + np.diag(pull)
        gram += np.eye(len(gram)) * 1e-12 * np.trace(gram)
        aim = weighted.T @ y + pull * scale * self.expected
        found: Floats = _not_negative(gram, aim) / scale
        return found

    def told(self, values: Floats) -> Floats:
        """What ``values`` (as `solve` gives them) make of the columns."""
        made: Floats = _with_constant(self.columns) @ values
        return made


def _not_negative(gram: Floats, aim: Floats) -> Floats:
    """The least of ``x' gram x / 2 - aim' x`` over ``x >= 0``.

    The pull is towards positive values, so that most often no coefficient, or few, would be negative: those are held
    at 0 and the others solved for again. If that is the least (Karush-Kuhn-Tucker) it is the only one, and found many
    times faster than by `nnls`, which frees one coefficient after the other.
    """
    free = np.ones(len(aim), dtype=bool)
    for _ in range(EXCHANGES):
        found = np.zeros(len(aim))
        found[free] = cho_solve(cho_factor(gram[np.ix_(free, free)], check_finite=False), aim[free])
        downhill = ~free & (aim - gram @ found > 0)
        negative = free & (found < 0)
        if not negative.any() and not downhill.any():
            return found
        free = (free & ~negative) | downhill
    root = np.linalg.cholesky(gram)
    one_by_one: Floats = nnls(root.T, np.linalg.solve(root, aim))[0]
    return one_by_one


def _with_constant(columns: Floats) -> Floats:
    return np.column_stack([np.ones(len(columns)), columns])
