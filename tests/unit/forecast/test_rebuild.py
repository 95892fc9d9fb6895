from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.errors import InvalidInput
from foreshard.forecast.rebuild import attribute, rebuild_shard_history
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


@given(st.lists(st.floats(0.1, 5.0), min_size=1, max_size=4), st.floats(0.0, 20.0), st.integers(0, 99))
def test_attribution_finds_the_costs_and_the_shards_own_part(
    costs: list[float], own: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    activity = {f"b{n:04d}": hourly(random.gamma(2.0, 20.0, len(HOURS))) for n in range(len(costs))}
    load = hourly(own) + sum(cost * activity[f"b{n:04d}"] for n, cost in enumerate(costs))
    found = attribute(load, activity)
    for number, cost in enumerate(costs):
        assert found.cost[f"b{number:04d}"] == pytest.approx(cost, abs=0.05 + 0.05 * max(costs))
    explained = sum(found.cost[name] * activity[name] for name in activity)
    assert (found.own >= 0).all()
    # Cost and own part give the load back, but for the hours whose own part was cut at zero.
    assert (found.own + explained >= load - 1e-6).all()


def test_equally_busy_buckets_share_the_cost() -> None:
    same = np.random.default_rng(1).gamma(2.0, 20.0, len(HOURS))
    found = attribute(hourly(6 * same), {"b0000": hourly(same), "b0001": hourly(same)})
    assert found.cost["b0000"] == pytest.approx(3.0, rel=0.01)
    assert found.cost["b0001"] == pytest.approx(3.0, rel=0.01)


def test_idle_buckets_cost_nothing_and_the_shard_keeps_its_load() -> None:
    found = attribute(hourly(2.0), {"b0000": hourly(0.0)})
    assert found.cost == {"b0000": 0.0}
    assert (found.own == 2.0).all()


def test_gaps_are_left_out_and_stay_gaps() -> None:
    busy = hourly(np.random.default_rng(1).gamma(2.0, 20.0, len(HOURS)))
    holed = busy.where(np.arange(len(busy)) != 5)
    found = attribute(2.0 * busy + 1.0, {"b0000": holed})
    assert found.cost["b0000"] == pytest.approx(2.0, rel=0.02)
    assert found.own.isna().sum() == 1


def test_without_a_common_hour_nothing_is_attributed() -> None:
    with pytest.raises(InvalidInput, match="load"):
        attribute(hourly(np.nan), {"b0000": hourly(1.0)})
