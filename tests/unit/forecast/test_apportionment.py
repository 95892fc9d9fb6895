"""Apportioning over the fleet: load follows its bucket to another shard, and nothing is invented on the way."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from foreshard.forecast.activity import Activity
from foreshard.forecast.apportionment import apportion
from foreshard.topology.placement import Placement

HOURS = pd.date_range("2026-01-05", periods=240, freq="h", tz="UTC")
MOVED = 200
"""Until this hour c was on "one", then on "two"."""

Q, R = "queries_per_s", "rows_read_per_s"


def wave(seed: int, mean: float) -> pd.Series[float]:
    rng = np.random.default_rng(seed)
    return pd.Series(mean * (1 + rng.random(len(HOURS))), index=HOURS)


A, B, C = wave(1, 10), wave(2, 20), wave(3, 15)
ON_ONE = pd.Series(np.arange(len(HOURS)) < MOVED, index=HOURS).astype(float)
ONE = 0.1 + 0.01 * (A + B) + 0.03 * C * ON_ONE
TWO = 0.05 + 0.03 * C * (1 - ON_ONE)
COUNTED = {Q: {"one": {"a": A, "b": B, "c": C[:MOVED]}, "two": {"c": C[MOVED:]}}}
BEFORE = Placement({"a": "one", "b": "one", "c": "one"})
AFTER = BEFORE.moved(["c"], "two")


def test_a_bucket_that_moved_brings_its_cpu_along() -> None:
    found = apportion("cpu_cores", {"one": ONE, "two": TWO}, Activity.of(COUNTED))
    by_shard = {series.key.shard: series.values for series in found.histories(AFTER)}
    assert by_shard["two"].mean() == pytest.approx((0.05 + 0.03 * C).mean(), rel=0.02)
    assert by_shard["one"].mean() == pytest.approx((0.1 + 0.01 * (A + B)).mean(), rel=0.02)


def test_the_history_of_any_placement_is_the_same_before_and_after_the_move() -> None:
    early = HOURS[:MOVED]
    before = apportion(
        "cpu_cores",
        {"one": ONE[early], "two": TWO[early]},
        Activity.of({Q: {"one": {"a": A[early], "b": B[early], "c": C[early]}}}),
    )
    after = apportion("cpu_cores", {"one": ONE, "two": TWO}, Activity.of(COUNTED))
    for placement in (BEFORE, AFTER):
        for shard in ("one", "two"):
            told, told_later = (x.history(shard, placement).values[early] for x in (before, after))
            pd.testing.assert_series_equal(told, told_later, rtol=0.02, check_freq=False)


def test_as_the_buckets_lay_the_history_is_what_was_measured() -> None:
    noise = pd.Series(np.random.default_rng(4).normal(1, 0.05, len(HOURS)), index=HOURS)
    found = apportion("cpu_cores", {"one": ONE * noise, "two": TWO}, Activity.of(COUNTED))
    told = found.history("one", BEFORE).values
    pd.testing.assert_series_equal(told[:MOVED], (ONE * noise)[:MOVED], check_names=False, check_freq=False)
    # And nothing is lost or doubled between the shards, wherever a bucket lies.
    both = sum(series.values for series in found.histories(AFTER))
    pd.testing.assert_series_equal(both, ONE * noise + TWO, check_names=False, check_freq=False, rtol=1e-9)


def test_an_hour_in_which_a_bucket_is_not_known_anywhere_is_a_gap() -> None:
    found = apportion(
        "cpu_cores", {"one": 0.01 * (A + B)}, Activity.of({Q: {"one": {"a": A.drop(HOURS[5]), "b": B}}})
    )
    told = found.history("one", Placement({"a": "one", "b": "one"})).values
    assert np.isnan(told[HOURS[5]])
    assert told.drop(HOURS[5]).notna().all()


def test_a_faulty_value_is_a_gap() -> None:
    load, queries = 0.01 * (A + B), A.copy()
    load.iloc[7] = 1e12
    queries.iloc[9] = 1e12
    found = apportion("cpu_cores", {"one": load}, Activity.of({Q: {"one": {"a": queries, "b": B}}}))
    told = found.history("one", Placement({"a": "one", "b": "one"})).values
    assert told[told.isna()].index.tolist() == [HOURS[7], HOURS[9]]
    assert told.max() < 1


def test_in_the_hour_of_its_move_both_shards_count() -> None:
    hour = HOURS[MOVED : MOVED + 1]
    halves = {
        Q: {"one": {"c": C[: MOVED + 1] * ON_ONE.where(ON_ONE > 0, 0.25)}, "two": {"c": C[MOVED:].copy()}}
    }
    halves[Q]["two"]["c"].iloc[0] *= 0.75
    activity = Activity.of(halves)
    assert activity.everywhere["c"].loc[hour, Q].to_numpy() == pytest.approx(C[hour].to_numpy())
    seen = activity.seen_from("one", HOURS)["c"][Q]
    assert seen[HOURS[MOVED]] == pytest.approx(C.iloc[MOVED] / 4)
    assert (seen[MOVED + 1 :] == 0).all()


def test_a_kind_that_a_history_lacks_is_filled_by_the_buckets_own_mix() -> None:
    live = HOURS[MOVED:]
    counted = {Q: {"one": {"a": A, "b": B}}, R: {"one": {"a": 5 * A[live], "b": 100 * B[live]}}}
    filled = Activity.of(counted).on["one"]
    assert filled["a"][R].to_numpy() == pytest.approx((5 * A).to_numpy())
    assert filled["b"][R].to_numpy() == pytest.approx((100 * B).to_numpy())
    assert list(Activity.of({Q: counted[Q], R: {}}).on["one"]["a"].columns) == [Q]


def test_a_bucket_that_nothing_is_known_of_costs_what_the_others_do() -> None:
    counted = {Q: {"one": {"a": A, "b": B}, "new": {"c": C}}}
    found = apportion("cpu_cores", {"one": 0.1 + 0.01 * (A + B)}, Activity.of(counted))
    assert found.parts["c"].mean() == pytest.approx(0.01 * C.mean(), rel=0.05)


def test_a_shard_without_buckets_keeps_its_load() -> None:
    found = apportion("cpu_cores", {"one": ONE, "spare": TWO * 0 + 0.05}, Activity.of(COUNTED))
    assert (found.history("spare", AFTER).values == 0.05).all()
    assert found.fits["spare"].explained == 0
