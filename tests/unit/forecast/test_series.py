from __future__ import annotations

import math

import pandas as pd
import pytest

from foreshard.errors import InvalidInput
from foreshard.forecast.series import Series, SeriesKey

KEY = SeriesKey("shard-1", None, "cpu_cores")


def test_missing_hours_become_gaps() -> None:
    index = pd.DatetimeIndex(["2013-11-27 00:00", "2013-11-27 03:00"], tz="UTC")
    hourly = Series(KEY, pd.Series([1.0, math.inf], index=index)).hourly()
    assert hourly.isna().tolist() == [False, True, True, True]


def test_an_empty_series_is_a_series() -> None:
    empty = Series(KEY, pd.Series(0.0, index=pd.DatetimeIndex([], tz="UTC")))
    assert empty.hourly().empty


@pytest.mark.parametrize(
    "index",
    [
        pd.RangeIndex(2),
        pd.DatetimeIndex(["2013-11-27 00:00", "2013-11-27 01:00"]),
        pd.DatetimeIndex(["2013-11-27 00:00", "2013-11-27 01:00"], tz="America/New_York"),
        pd.DatetimeIndex(["2013-11-27 01:00", "2013-11-27 00:00"], tz="UTC"),
        pd.DatetimeIndex(["2013-11-27 00:00", "2013-11-27 00:00"], tz="UTC"),
        pd.DatetimeIndex(["2013-11-27 00:00", "2013-11-27 01:30"], tz="UTC"),
    ],
    ids=["numbers", "naive", "local", "unordered", "double", "half hours"],
)
def test_other_indexes_are_refused(index: pd.Index) -> None:
    with pytest.raises(InvalidInput, match="values"):
        Series(KEY, pd.Series([1.0, 2.0], index=index))


@pytest.mark.parametrize(("shard", "bucket"), [(None, None), ("shard-1", "b0000")])
def test_a_key_is_of_a_shard_or_of_a_bucket(shard: str | None, bucket: str | None) -> None:
    with pytest.raises(InvalidInput, match="key"):
        SeriesKey(shard, bucket, "cpu_cores")
