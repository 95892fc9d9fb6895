"""Apportioning: load follows its bucket to another shard."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from foreshard.forecast.apportion import rebuild_metric
from foreshard.topology.placement import Placement

HOURS = pd.date_range("2026-01-05", periods=240, freq="h", tz="UTC")


def wave(seed: int, mean: float) -> pd.Series[float]:
    rng = np.random.default_rng(seed)
    return pd.Series(mean * (1 + rng.random(len(HOURS))), index=HOURS)


def test_a_bucket_that_moved_brings_its_cpu_along() -> None:
    a, b, c = wave(1, 10), wave(2, 20), wave(3, 15)
    moved = 200  # c was on "one" for 200 hours, then on "two"
    one = 0.1 + 0.01 * (a + b) + 0.03 * c.where(np.arange(len(HOURS)) < moved, 0.0)
    two = 0.05 + 0.03 * c.where(np.arange(len(HOURS)) >= moved, 0.0)
    rebuilt = rebuild_metric(
        "cpu_cores",
        {"one": one, "two": two},
        {"one": {"a": a, "b": b, "c": c[:moved]}, "two": {"c": c[moved:]}},
        Placement({"a": "one", "b": "one", "c": "two"}),
    )
    by_shard = {series.key.shard: series.values for series in rebuilt}
    assert by_shard["two"].mean() == pytest.approx((0.05 + 0.03 * c).mean(), rel=0.1)
    assert by_shard["one"].mean() == pytest.approx((0.1 + 0.01 * (a + b)).mean(), rel=0.1)


def test_an_hour_in_which_a_bucket_is_not_known_anywhere_is_a_gap() -> None:
    a, b = wave(1, 10), wave(2, 20)
    rebuilt = rebuild_metric(
        "cpu_cores",
        {"one": 0.01 * (a + b)},
        {"one": {"a": a.drop(HOURS[5]), "b": b}},
        Placement({"a": "one", "b": "one"}),
    )
    assert np.isnan(rebuilt[0].values[HOURS[5]])
    assert rebuilt[0].values.drop(HOURS[5]).notna().all()
