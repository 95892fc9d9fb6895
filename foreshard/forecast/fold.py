"""A series folded by day or week: the same hour of all days below one another."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from foreshard.forecast.band import Floats
from foreshard.forecast.panel import Values

Known = TypeVar("Known", Values, Floats)
Flags = npt.NDArray[np.bool_]


def folded(values: Values, period: int) -> Values:
    """``values``, shape (..., steps), as (..., periods, period); the last cell is the last step.

    NaN in front where the first period began before the panel.
    """
    missing = -values.shape[-1] % period
    front = np.full((*values.shape[:-1], missing), np.nan, values.dtype)
    whole = np.concatenate([front, values], axis=-1)
    return whole.reshape(*values.shape[:-1], whole.shape[-1] // period, period)


def quantile(values: Known, level: float, axis: int, at_least: int = 1) -> Known:
    """The known value that stands at ``level`` of the known ones along ``axis`` (the lower of two).

    NaN where fewer than ``at_least`` are known. ``np.nanquantile`` does the same, one row at a time.
    """
    in_order = np.sort(values, axis=axis)  # NaN comes last
    known = np.sum(~np.isnan(values), axis=axis, keepdims=True)
    at = np.floor(level * np.maximum(known - 1, 0)).astype(np.intp)
    if values.shape[axis] == 0:
        return np.full(np.squeeze(known, axis).shape, np.nan, values.dtype)
    found = np.take_along_axis(in_order, at, axis)
    return np.squeeze(np.where(known >= at_least, found, np.float32(np.nan)), axis)
