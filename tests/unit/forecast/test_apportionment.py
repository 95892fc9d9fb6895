"""Apportioning over the fleet: load follows its bucket to another shard, and nothing is invented on the way."""

from __future__ import annotations

import numpy as np
import pytest

from foreshard.forecast.activity import Activity
from foreshard.forecast.apportionment import apportion
from foreshard.topology.placement import Placement
from tests.unit.forecast.fleet_history import CPU, Floats, Q, R, counted, during, fleet_load, history

HOURS = 240
MOVED = 200
"""Until this hour c was on "one", then on "two"."""


def wave(seed: int, mean: float) -> Floats:
    return mean * (1 + np.random.default_rng(seed).random(HOURS))


A, B, C = wave(1, 10), wave(2, 20), wave(3, 15)
ON_ONE = (np.arange(HOURS) < MOVED).astype(float)
ONE = 0.1 + 0.01 * (A + B) + 0.03 * C * ON_ONE
TWO = 0.05 + 0.03 * C * (1 - ON_ONE)
COUNTED = {Q: {"one": {"a": A, "b": B, "c": during(C, 0, MOVED)}, "two": {"c": during(C, MOVED, HOURS)}}}
BEFORE = Placement({"a": "one", "b": "one", "c": "one"})
AFTER = BEFORE.moved(["c"], "two")


def test_a_bucket_that_moved_brings_its_cpu_along() -> None:
    load = fleet_load({"one": ONE, "two": TWO}, Activity.of(counted(COUNTED)))
    assert history(load, "two", AFTER).mean() == pytest.approx((0.05 + 0.03 * C).mean(), rel=0.02)
    assert history(load, "one", AFTER).mean() == pytest.approx((0.1 + 0.01 * (A + B)).mean(), rel=0.02)


def test_the_history_of_any_placement_is_the_same_before_and_after_the_move() -> None:
    early = {Q: {"one": {"a": A[:MOVED], "b": B[:MOVED], "c": C[:MOVED]}}}
    before = fleet_load({"one": ONE[:MOVED], "two": TWO[:MOVED]}, Activity.of(counted(early)))
    after = fleet_load({"one": ONE, "two": TWO}, Activity.of(counted(COUNTED)))
    for placement in (BEFORE, AFTER):
        for shard in ("one", "two"):
            told, told_later = (history(one, shard, placement)[:MOVED] for one in (before, after))
            assert told_later == pytest.approx(told, rel=0.02)


def test_as_the_buckets_lay_the_history_is_what_was_measured() -> None:
    noise = np.random.default_rng(4).normal(1, 0.05, HOURS)
    load = fleet_load({"one": ONE * noise, "two": TWO}, Activity.of(counted(COUNTED)))
    assert history(load, "one", BEFORE)[:MOVED] == pytest.approx((ONE * noise)[:MOVED], rel=1e-6)
    # And nothing is lost or doubled between the shards, wherever a bucket lies.
    both = history(load, "one", AFTER) + history(load, "two", AFTER)
    assert both == pytest.approx(ONE * noise + TWO, rel=1e-6)
    found = load.apportioned[CPU]
    parts = [found.part(row) for row in range(3)]
    whole = np.sum([*parts, found.own["one"], found.own["two"]], axis=0)
    assert whole == pytest.approx(ONE * noise + TWO, rel=1e-12)


def test_an_hour_in_which_a_bucket_is_not_known_anywhere_is_a_gap() -> None:
    holed = A.copy()
    holed[5] = np.nan
    load = fleet_load({"one": 0.01 * (A + B)}, Activity.of(counted({Q: {"one": {"a": holed, "b": B}}})))
    told = history(load, "one", Placement({"a": "one", "b": "one"}))
    assert np.flatnonzero(np.isnan(told)).tolist() == [5]


def test_a_faulty_value_is_a_gap() -> None:
    cpu, queries = 0.01 * (A + B), A.copy()
    cpu[7] = 1e12
    queries[9] = 1e12
    load = fleet_load({"one": cpu}, Activity.of(counted({Q: {"one": {"a": queries, "b": B}}})))
    told = history(load, "one", Placement({"a": "one", "b": "one"}))
    assert np.flatnonzero(np.isnan(told)).tolist() == [7, 9]
    assert np.nanmax(told) < 1


def test_a_bucket_that_nothing_is_known_of_costs_what_the_others_do() -> None:
    activity = Activity.of(counted({Q: {"one": {"a": A, "b": B}, "new": {"c": C}}}))
    found = apportion(CPU, {"one": 0.1 + 0.01 * (A + B)}, activity)
    assert found.part(activity.buckets.index("c")).mean() == pytest.approx(0.01 * C.mean(), rel=0.05)


def test_a_shard_without_buckets_keeps_its_load() -> None:
    load = fleet_load({"one": ONE, "spare": TWO * 0 + 0.05}, Activity.of(counted(COUNTED)))
    assert history(load, "spare", AFTER) == pytest.approx(0.05)
    assert load.apportioned[CPU].fits["spare"].explained == 0


def test_a_load_is_apportioned_as_it_was_before_arrays() -> None:
    """Costs, fit and own part of a small fleet with a move, a lacking kind, a gap and a fault, as frames had them."""
    rng = np.random.default_rng(7)
    hours = np.arange(96)
    rates = (10 + 5 * np.arange(4)[:, None]) * (1.5 + np.sin((hours + 5 * np.arange(4)[:, None]) / 4))
    rates = (rates * rng.uniform(0.8, 1.2, rates.shape)).round(3)
    reads = (rates * [[3.0], [1.0], [9.0], [2.0]] * rng.uniform(0.9, 1.1, rates.shape)).round(3)
    cost = np.array([[0.004], [0.006], [0.002], [0.01]])
    parts = cost * (rates + 0.1 * reads)
    one = 0.2 + parts[0] + parts[1] + parts[2] * (hours < 60) + rng.normal(0, 0.01, 96).round(4)
    two = 0.1 + parts[3] + parts[2] * (hours >= 60) + rng.normal(0, 0.01, 96).round(4)
    one[10], two[20], rates[0, 30], reads[1, :50] = np.nan, 1e9, 1e12, np.nan
    of = {
        kind: {
            "one": {"a": by[0], "b": by[1], "c": during(by[2], 0, 60)},
            "two": {"c": during(by[2], 60, 96), "d": by[3]},
        }
        for kind, by in ((Q, rates), (R, reads))
    }
    found = apportion(CPU, {"one": one, "two": two}, Activity.of(counted(of)))
    fits = [found.fits[shard] for shard in ("one", "two")]
    assert [(fit.method, fit.windows) for fit in fits] == [("buckets", 94), ("buckets", 94)]
    assert [fit.r_squared for fit in fits] == pytest.approx([0.9944675, 0.9981119], rel=1e-5)
    means = [np.nanmean(part) for part in (*map(found.part, range(4)), found.own["one"], found.own["two"])]
    expected = [0.0782231, 0.1476413, 0.1107741, 0.4422227, 0.1963513, 0.1033468]
    assert means == pytest.approx(expected, rel=1e-5)
