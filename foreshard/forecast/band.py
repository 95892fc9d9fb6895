"""A forecast as a band of quantiles per step."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from foreshard.errors import InvalidInput

if TYPE_CHECKING:  # every process reads the settings, and these the levels here: half a second of pandas
    import pandas as pd

Floats = npt.NDArray[np.float64]

QUANTILES = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95)
"""Levels of every band, in the order of its columns."""


def quantile_column(level: float) -> int:
    """Column of ``level`` in a band. Raises ``InvalidInput`` (field ``quantile``) for any other level."""
    try:
        return QUANTILES.index(level)
    except ValueError:
        raise InvalidInput("quantile", f"{level} is not one of {', '.join(map(str, QUANTILES))}") from None


@dataclass(frozen=True, eq=False)
class Band:
    """``quantiles`` has shape (steps, 7), in the metric's unit, for the steps that start at ``ts`` (UTC).

    Raises ``InvalidInput`` unless the steps are UTC and increasing and the quantiles of each are finite, not
    below zero and do not cross.
    """

    ts: pd.DatetimeIndex
    quantiles: Floats

    def __post_init__(self) -> None:
        if len(self.ts) == 0:
            raise InvalidInput("ts", "a band needs at least one step")
        if str(self.ts.tz) != "UTC" or not (self.ts.is_monotonic_increasing and self.ts.is_unique):
            raise InvalidInput("ts", "the steps of a band are not increasing UTC timestamps")
        if self.quantiles.shape != (len(self.ts), len(QUANTILES)):
            raise InvalidInput(
                "quantiles", f"shape {self.quantiles.shape} is not ({len(self.ts)}, {len(QUANTILES)})"
            )
        if not np.isfinite(self.quantiles).all():
            raise InvalidInput("quantiles", "hold a value that is not finite")
        if (self.quantiles < 0).any() or (np.diff(self.quantiles, axis=1) < 0).any():
            raise InvalidInput("quantiles", "are below zero or cross")

    def at(self, level: float) -> Floats:
        """The quantile's value at each step, shape (steps,)."""
        values: Floats = self.quantiles[:, quantile_column(level)]
        return values

    def peak(self, level: float) -> float:
        """The quantile's largest value over the horizon."""
        return float(self.at(level).max())

    def first_above(self, capacity: float, level: float) -> datetime | None:
        """Start of the first step at which the quantile exceeds ``capacity``, or None."""
        above = np.flatnonzero(self.at(level) > capacity)
        return self.ts[above[0]].to_pydatetime() if len(above) else None
