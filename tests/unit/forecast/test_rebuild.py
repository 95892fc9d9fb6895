"""Shards' histories under placements, real and imagined."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.errors import InvalidInput
from foreshard.forecast import rebuild
from foreshard.forecast.activity import Activity
from foreshard.forecast.apportionment import work
from foreshard.forecast.series import SeriesKey
from foreshard.topology.placement import Placement
from tests.unit.forecast.fleet_history import (
    CPU,
    MEMORY,
    START,
    Floats,
    Q,
    counted,
    during,
    fleet_load,
    history,
)

HOURS = 200
PLACEMENT = Placement({"b0000": "shard-1", "b0001": "shard-1", "b0002": "shard-2"})


def level(value: float) -> Floats:
    return np.full(HOURS, value)


def activity(**buckets: Floats) -> Activity:
    """Each where `PLACEMENT` has it."""
    shards: dict[str, dict[str, Floats]] = {}
    for bucket, values in buckets.items():
        shards.setdefault(PLACEMENT.shard_of(bucket), {})[bucket] = values
    return Activity.of(counted({Q: shards}))


def test_sums_what_lies_on_the_shard() -> None:
    load = fleet_load({}, activity(b0000=level(1.0), b0001=level(2.0), b0002=level(4.0)))
    assert (history(load, "shard-1", PLACEMENT, Q) == 3.0).all()
    assert (history(load, "shard-1", PLACEMENT.moved(["b0002"], "shard-1"), Q) == 7.0).all()
    panel = load.shard_panel(PLACEMENT, ["shard-2", "shard-1"], [Q])
    assert panel.keys == (SeriesKey("shard-2", None, Q), SeriesKey("shard-1", None, Q))
    assert (panel.starts_at, panel.step, panel.steps) == (START, timedelta(hours=1), HOURS)


def test_a_gap_in_one_bucket_is_a_gap_not_zero() -> None:
    holed = level(2.0)
    holed[3] = np.nan
    load = fleet_load({}, activity(b0000=during(level(1.0), 10, HOURS), b0001=holed))
    assert np.flatnonzero(np.isnan(history(load, "shard-1", PLACEMENT, Q))).tolist() == list(range(10))
    load = fleet_load({}, activity(b0000=level(1.0), b0001=holed))
    assert np.flatnonzero(np.isnan(history(load, "shard-1", PLACEMENT, Q))).tolist() == [3]


def test_a_new_shard_was_idle_while_the_fleet_was_known() -> None:
    known = during(level(1.0), 10, HOURS)
    load = fleet_load({"shard-1": 2 * known}, activity(b0000=known), {MEMORY: {"shard-1": level(1e9)}})
    for metric in (Q, CPU):
        told = history(load, "shard-4", PLACEMENT, metric)
        assert np.isnan(told[:10]).all()
        assert (told[10:] == 0).all()
    assert (history(load, "shard-4", PLACEMENT, MEMORY) == 0).all()
    # And it bears what is to come to it.
    moved = Placement({"b0000": "shard-4"})
    assert history(load, "shard-4", moved)[10:] == pytest.approx(2.0)
    assert history(load, "shard-4", moved, Q)[10:] == pytest.approx(1.0)


def test_a_bucket_that_was_never_measured_is_in_its_shards_own_part() -> None:
    cpu = level(1.0)
    load = fleet_load({"shard-1": cpu}, activity(b0000=1 + np.random.default_rng(1).random(HOURS)))
    assert history(load, "shard-1", PLACEMENT) == pytest.approx(cpu)
    assert not np.isnan(history(load, "shard-1", PLACEMENT, Q)).any()
    # Nothing at all is known of what lies on this one: that is not idle.
    for metric in (Q, CPU):
        assert np.isnan(history(load, "shard-2", PLACEMENT, metric)).all()


def test_a_metric_that_was_never_measured_anywhere_has_no_history() -> None:
    load = fleet_load({}, activity(b0000=level(1.0), b0002=level(1.0)), {MEMORY: {}})
    for shard in ("shard-1", "shard-4"):
        for metric in (CPU, MEMORY):
            assert np.isnan(history(load, shard, PLACEMENT, metric)).all()


def test_a_metric_that_was_not_measured_on_this_shard_has_no_history_there() -> None:
    load = fleet_load({"shard-1": level(2.0)}, activity(b0000=level(1.0), b0002=level(1.0)))
    assert np.isnan(history(load, "shard-2", PLACEMENT)).all()
    assert (history(load, "shard-2", PLACEMENT, Q) == 1.0).all()


def test_before_it_was_there_a_shard_takes_what_it_takes_now() -> None:
    """The target of a migration, new today, has a history of its buckets all the same."""
    rates = 10 + 5 * np.random.default_rng(2).random(HOURS)
    of = {"one": {"c": during(rates, 0, 150), "a": rates}, "new": {"c": during(rates, 150, HOURS)}}
    moves = np.arange(HOURS) >= 150
    one = 0.2 + 0.01 * rates * (2 - moves)
    new = np.where(moves, 0.05 + 0.01 * rates, np.nan)
    load = fleet_load({"one": one, "new": new}, Activity.of(counted({Q: of})))
    told = history(load, "new", Placement({"a": "one", "c": "new"}))
    assert told == pytest.approx(0.05 + 0.01 * rates, rel=0.03)


def test_a_sum_is_never_negative() -> None:
    """At half past nothing the bucket does much, and the shard nothing."""
    rates = 10 + 5 * np.random.default_rng(2).random(HOURS)
    cpu = 0.01 * rates
    cpu[50:60] = 0.0
    load = fleet_load({"shard-2": cpu}, activity(b0002=rates))
    empty = Placement({"b0002": "shard-1"})
    assert load.apportioned[CPU].own["shard-2"].min() < -0.05
    assert history(load, "shard-2", empty).min() == 0.0


def test_what_does_not_follow_the_buckets_stays() -> None:
    memory = during(level(1e9), 20, HOURS)
    load = fleet_load(
        {}, activity(b0000=level(1.0), b0002=during(level(1.0), 50, HOURS)), {MEMORY: {"shard-2": memory}}
    )
    for placement in (PLACEMENT, PLACEMENT.moved(["b0002"], "shard-1")):
        np.testing.assert_array_equal(history(load, "shard-2", placement, MEMORY), memory)


def test_an_unknown_metric_is_refused_by_name() -> None:
    load = fleet_load({}, activity(b0000=level(1.0)))
    with pytest.raises(InvalidInput, match="rows_read") as refused:
        load.shard_panel(PLACEMENT, ["shard-1"], [Q, "rows_read_per_s"])
    assert refused.value.field == "metrics"


def test_only_shards_whose_buckets_changed_are_summed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    summed = []

    def counting(values: rebuild.Values, cost: Floats) -> Floats:
        summed.append(len(values))
        return work(values, cost)

    monkeypatch.setattr(rebuild, "work", counting)
    buckets = {f"b{n}": level(n + 1.0) for n in range(6)}
    of = {"one": {b: buckets[b] for b in ("b0", "b1")}, "two": {b: buckets[b] for b in ("b2", "b3", "b4")}}
    load = fleet_load({}, Activity.of(counted({Q: {**of, "three": {"b5": buckets["b5"]}}})))
    placement = Placement(
        {bucket: shard for shard, names in of.items() for bucket in names} | {"b5": "three"}
    )
    shards = ["one", "two", "three"]
    before = load.shard_panel(placement, shards, [Q]).values.copy()
    assert summed == [2, 3, 1]
    moved = load.shard_panel(placement.moved(["b4"], "one"), shards, [Q]).values
    assert summed[3:] == [3, 2]
    assert (moved - before)[:, 0].tolist() == [5.0, -5.0, 0.0]
    np.testing.assert_array_equal(load.shard_panel(placement, shards, [Q, CPU]).values[:3], before)
    assert len(summed) == 5
    for bucket in buckets:  # and no more is kept than a few of each
        for shard in shards:
            load.shard_panel(placement.moved([bucket], shard), shards, [Q])
    assert len(load._rebuilt) <= rebuild.KEPT * len(shards)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.data())
def test_whatever_moves_the_fleets_load_is_what_was_measured(seed: int, data: st.DataObject) -> None:
    """Under any placement the shards' histories add up to what the fleet did; and a moved bucket takes its part."""
    rng = np.random.default_rng(seed)
    shards, buckets, hours = ["s0", "s1", "s2"], [f"b{n}" for n in range(6)], 60
    home = rng.integers(0, 3, 6)
    where = np.where(
        np.arange(hours) < rng.integers(0, hours, (6, 1)), home[:, None], rng.integers(0, 3, (6, 1))
    )
    rates = rng.gamma(2, 10, (6, hours))
    of = {
        shard: {
            bucket: np.where(where[row] == at, rates[row], np.nan)
            for row, bucket in enumerate(buckets)
            if (where[row] == at).any()
        }
        for at, shard in enumerate(shards)
    }
    loads = {
        shard: 5 + ((where == at) * rates * 0.01).sum(axis=0) + rng.random(hours)
        for at, shard in enumerate(shards)
    }
    load = fleet_load(loads, Activity.of(counted({Q: {shard: by for shard, by in of.items() if by}})))
    chosen = data.draw(st.lists(st.sampled_from(shards), min_size=6, max_size=6))
    placement = Placement(dict(zip(buckets, chosen, strict=True)))
    panel = load.shard_panel(placement, shards, [CPU, Q])
    assert panel.values[:3].sum(axis=0) == pytest.approx(sum(loads.values()), rel=1e-5)
    assert panel.values[3:].sum(axis=0) == pytest.approx(rates.sum(axis=0), rel=1e-5)
    source, target = placement.shard_of("b0"), data.draw(st.sampled_from(shards))
    after = load.shard_panel(placement.moved(["b0"], target), [source, target], [CPU]).values
    before = load.shard_panel(placement, [source, target], [CPU]).values
    part = 0 if source == target else load.apportioned[CPU].part(load.activity.buckets.index("b0"))
    assert before[0] - after[0] == pytest.approx(part, abs=1e-4)
    assert after[1] - before[1] == pytest.approx(part, abs=1e-4)
