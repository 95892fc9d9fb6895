"""A load series: hourly means of one metric of one bucket or one shard."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pandas as pd

from foreshard.errors import InvalidInput

STEP = timedelta(hours=1)


@dataclass(frozen=True, order=True)
class SeriesKey:
    """What a series measures: a shard's metric (``bucket`` is None) or a bucket's (``shard`` is None).

    A bucket's series does not name a shard because it must outlive moves.
    """

    shard: str | None
    bucket: str | None
    metric: str

    def __post_init__(self) -> None:
        if (self.shard is None) == (self.bucket is None):
            raise InvalidInput("key", "a series belongs to a shard or to a bucket, to exactly one of them")
        if not self.metric:
            raise InvalidInput("metric", "is empty")

    def __str__(self) -> str:
        return f"{self.shard or self.bucket}/{self.metric}"


@dataclass(frozen=True, eq=False)
class Series:
    """``values``: hourly means in the metric's unit, indexed by the hour's start in UTC; NaN is a gap.

    Hours that are missing from the index are gaps too. Raises ``InvalidInput`` (field ``values``) unless the
    index is tz-aware UTC, increasing and without duplicates, on whole hours.
    """

    key: SeriesKey
    values: pd.Series[float]

    def __post_init__(self) -> None:
        index = self.values.index
        if not isinstance(index, pd.DatetimeIndex) or str(index.tz) != "UTC":
            raise InvalidInput("values", f"series {self.key} is not indexed by UTC timestamps")
        if not (index.is_monotonic_increasing and index.is_unique):
            raise InvalidInput("values", f"series {self.key} has timestamps out of order or twice")
        if not index.equals(index.floor("h")):
            raise InvalidInput("values", f"series {self.key} has timestamps that are not whole hours")

    def hourly(self) -> pd.Series[float]:
        """The values with every hour from first to last, gaps as NaN; infinities count as gaps."""
        values = self.values.astype(float)
        values = values.where(np.isfinite(values))
        if values.empty:
            return values
        return values.reindex(pd.date_range(values.index[0], values.index[-1], freq="h"))
