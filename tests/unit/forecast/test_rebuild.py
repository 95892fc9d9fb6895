from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from foreshard.errors import InvalidInput
from foreshard.forecast.rebuild import rebuild_shard_history
from foreshard.forecast.series import SeriesKey
from foreshard.topology.placement import Placement

HOURS = pd.date_range("2013-11-01", periods=200, freq="h", tz="UTC")
KEY = SeriesKey("shard-1", None, "queries_per_s")
PLACEMENT = Placement({"b0000": "shard-1", "b0001": "shard-1", "b0002": "shard-2"})


def hourly(values: object) -> pd.Series[float]:
    return pd.Series(values, index=HOURS, dtype=float)


def test_sums_what_lies_on_the_shard_now() -> None:
    buckets = {"b0000": hourly(1.0), "b0001": hourly(2.0), "b0002": hourly(4.0)}
    assert (rebuild_shard_history(KEY, buckets, PLACEMENT).values == 3.0).all()
    assert (rebuild_shard_history(KEY, buckets, PLACEMENT, own=hourly(0.5)).values == 3.5).all()
    moved = PLACEMENT.moved(["b0002"], "shard-1")
    assert (rebuild_shard_history(KEY, buckets, moved).values == 7.0).all()


def test_a_gap_in_one_bucket_is_a_gap_not_zero() -> None:
    holed = hourly(2.0)
    holed.iloc[3] = np.nan
    short = hourly(1.0)[10:]
    rebuilt = rebuild_shard_history(KEY, {"b0000": short, "b0001": holed}, PLACEMENT).values
    assert rebuilt.isna().to_numpy().nonzero()[0].tolist() == list(range(10))
    rebuilt = rebuild_shard_history(KEY, {"b0000": hourly(1.0), "b0001": holed}, PLACEMENT).values
    assert rebuilt.isna().to_numpy().nonzero()[0].tolist() == [3]


def test_an_empty_shard_was_idle() -> None:
    empty = SeriesKey("shard-4", None, "queries_per_s")
    rebuilt = rebuild_shard_history(empty, {"b0000": hourly(1.0)}, PLACEMENT).values
    assert len(rebuilt) == len(HOURS)
    assert (rebuilt == 0).all()


def test_a_bucket_without_history_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="b0001"):
        rebuild_shard_history(KEY, {"b0000": hourly(1.0)}, PLACEMENT)
    with pytest.raises(InvalidInput, match="key"):
        rebuild_shard_history(SeriesKey(None, "b0000", "queries_per_s"), {}, PLACEMENT)


def test_a_sum_is_never_negative() -> None:
    rebuilt = rebuild_shard_history(
        KEY, {"b0000": hourly(1.0), "b0001": hourly(2.0)}, PLACEMENT, hourly(-4.0)
    )
    assert (rebuilt.values == 0).all()
