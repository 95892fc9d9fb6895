"""Activity on one grid: what was counted where, gaps and faults, kinds that a history lacks."""

from __future__ import annotations

import numpy as np
import pytest

from foreshard.forecast.activity import Activity
from tests.unit.forecast.fleet_history import Q, R, counted, during

HOURS = 48
A, B, C = (10.0 * (n + 1) * (1 + np.random.default_rng(n).random(HOURS)) for n in range(3))


def test_in_the_hour_of_its_move_both_shards_count() -> None:
    one, two = during(C, 0, 31), during(C, 30, HOURS)
    one[30] *= 0.25
    two[30] *= 0.75
    activity = Activity.of(counted({Q: {"one": {"a": A, "c": one}, "two": {"c": two}}}))
    assert activity.buckets == ("a", "c")
    assert activity.everywhere[1, 0] == pytest.approx(C, rel=1e-6)
    assert activity.known.all()
    seen = activity.seen_from("one")
    assert seen.rows.tolist() == [0, 1]
    assert seen.values[1, 0, 30] == pytest.approx(C[30] / 4)
    assert (seen.values[1, 0, 31:] == 0).all()
    assert len(activity.seen_from("three").rows) == 0


def test_where_nobody_knows_a_bucket_there_is_a_gap_everywhere() -> None:
    c = during(C, 5, HOURS)
    activity = Activity.of(counted({Q: {"one": {"a": A}, "two": {"c": c}}}))
    assert np.isnan(activity.everywhere[1, 0, :5]).all()
    assert np.isnan(activity.seen_from("two").values[0, 0, :5]).all()


def test_a_kind_that_a_history_lacks_is_filled_by_the_buckets_own_mix() -> None:
    late = {"a": during(5 * A, 40, HOURS), "b": during(100 * B, 40, HOURS)}
    activity = Activity.of(counted({Q: {"one": {"a": A, "b": B}, "two": {"c": C}}, R: {"one": late}}))
    assert activity.kinds == (Q, R)
    assert activity.everywhere[0, 1] == pytest.approx(5 * A, rel=1e-5)
    assert activity.everywhere[1, 1] == pytest.approx(100 * B, rel=1e-5)
    # Of c it was never seen: the fleet's.
    common = (5 * A + 100 * B)[40:].sum() / (A + B)[40:].sum()
    assert activity.everywhere[2, 1] == pytest.approx(common * C, rel=1e-5)


def test_a_kind_that_nobody_has_is_left_out() -> None:
    activity = Activity.of(counted({Q: {"one": {"a": A}}, R: {}}))
    assert activity.kinds == (Q,)
    assert activity.everywhere.shape == (1, 1, HOURS)


def test_an_absurd_window_is_a_gap_of_all_buckets_on_that_shard() -> None:
    spoilt, negative = A.copy(), C.copy()
    spoilt[7], negative[9] = 1e12, -1.0
    activity = Activity.of(counted({Q: {"one": {"a": spoilt, "b": B}, "two": {"c": negative}}}))
    gaps = np.isnan(activity.everywhere[:, 0])
    assert [np.flatnonzero(one).tolist() for one in gaps] == [[7], [7], [9]]


def test_other_kinds_are_taken_for_buckets_in_another_order() -> None:
    activity = Activity.of(counted({Q: {"one": {"b": B, "a": A}}, R: {"one": {"a": 2 * A, "b": 3 * B}}}))
    assert activity.everywhere[0, 1] == pytest.approx(2 * A, rel=1e-6)
    assert activity.everywhere[1, 1] == pytest.approx(3 * B, rel=1e-6)
