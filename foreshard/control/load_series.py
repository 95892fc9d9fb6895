"""Rows of load as pandas has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from foreshard.control.load_levels import EPOCH
from foreshard.load.rollup import Matrix, Numbers, Rows

if TYPE_CHECKING:  # `collect`, each minute, writes samples and makes no series
    import pandas as pd

_EPOCH_US = int((EPOCH - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * 1_000_000


def times_of(rows: Mapping[int, Rows]) -> Numbers:
    """All times that any of the shards has a row at, rising."""
    return np.unique(np.concatenate([one.ts for one in rows.values()] or [np.empty(0, np.int64)]))


def index_of(times: Numbers) -> pd.DatetimeIndex:
    """PostgreSQL's microseconds as an index in UTC."""
    import pandas as pd

    return pd.DatetimeIndex((times + _EPOCH_US).astype("datetime64[us]").astype("datetime64[ns]"), tz="UTC")


def series_of(values: Matrix, times: Numbers) -> pd.Series[float]:
    """One series, without its gaps."""
    import pandas as pd

    known = ~np.isnan(values)
    return pd.Series(values[known], index=index_of(times[known]))


def all_series(matrix: Matrix, times: Numbers, names: Sequence[str]) -> dict[str, pd.Series[float]]:
    """A series for each row of the matrix that knows anything, without its gaps.

    Series with the same gaps share one index, and those without any are views of the matrix.
    """
    import pandas as pd

    index = index_of(times)
    known: NDArray[np.bool_] = ~np.isnan(matrix)
    complete = np.asarray(known.all(axis=1))
    indexes: dict[bytes, pd.DatetimeIndex] = {}
    found: dict[str, pd.Series[float]] = {}
    for name, values, here, whole in zip(names, matrix, known, complete, strict=True):
        if whole and len(index):
            found[name] = pd.Series(values, index=index, copy=False)
        elif here.any():
            gaps = np.packbits(here).tobytes()
            if gaps not in indexes:
                indexes[gaps] = index[here]
            found[name] = pd.Series(values[here], index=indexes[gaps], copy=False)
    return found
