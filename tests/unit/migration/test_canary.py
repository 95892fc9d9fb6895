from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from foreshard.migration.canary import ENOUGH_WRITES, Share, bound_for
from foreshard.topology.keys import SLOTS

percents = st.floats(0.01, 99.99)
presents = st.integers(0, SLOTS - 2)
few_hot_keys = st.dictionaries(st.integers(0, SLOTS - 1), st.integers(1, 10_000), max_size=8)
many_keys = st.integers(0, 2**32).map(
    lambda seed: dict(Counter(random.Random(seed).choices(range(SLOTS), k=2000)))
)
loads = few_hot_keys | many_keys


@given(percents, loads, presents)
def test_at_least_one_slot_more_and_never_all(percent: float, writes: dict[int, int], present: int) -> None:
    share = bound_for(percent, writes, present)
    assert present < share.bound < SLOTS
    assert share == bound_for(percent, dict(reversed(list(writes.items()))), present)


@given(percents, percents, loads, presents)
def test_a_larger_wish_never_gives_a_lower_bound(
    one: float, other: float, writes: dict[int, int], present: int
) -> None:
    low, high = sorted((one, other))
    assert bound_for(low, writes, present).bound <= bound_for(high, writes, present).bound


@given(percents, loads, presents)
def test_no_other_bound_comes_nearer_to_the_wish(
    percent: float, writes: dict[int, int], present: int
) -> None:
    share = bound_for(percent, writes, present)
    total = sum(writes.values())
    others = {
        bound: sum(count for slot, count in writes.items() if slot < bound)
        for bound in range(present + 1, SLOTS)
    }
    if total < ENOUGH_WRITES or not any(others.values()):
        assert share.writes_percent is None
        return
    nearest = min(abs(100 * below / total - percent) for below in others.values() if below)
    assert share.writes_percent is not None
    assert share.writes_percent > 0
    assert abs(share.writes_percent - percent) <= nearest + 1e-9


@given(percents, st.integers(SLOTS - 1, SLOTS), loads)
def test_without_a_slot_to_take_the_bound_stays(percent: float, present: int, writes: dict[int, int]) -> None:
    assert bound_for(percent, writes, present).bound == present


def test_even_writes_make_both_shares_alike() -> None:
    even = dict.fromkeys(range(SLOTS), 10)
    assert [bound_for(percent, even, 0).bound for percent in (1.0, 10.0, 50.0)] == [10, 102, 512]


def test_a_hot_key_is_left_out_of_a_small_step_and_is_what_a_large_one_takes() -> None:
    writes = {**dict.fromkeys(range(SLOTS), 1), 300: 1024}
    assert bound_for(10, writes, 0).bound == 205  # a tenth of the slots carries a twentieth of the writes
    assert bound_for(60, writes, 0).bound == 301


def test_few_hot_keys_make_the_smallest_step_one_of_them() -> None:
    writes = {100: 500, 400: 300, 900: 200}
    first = bound_for(1, writes, 0)
    assert (first.bound, first.writes_percent) == (101, 50.0)
    assert bound_for(85, writes, first.bound).bound == 401


def test_few_measured_writes_mean_a_share_of_slots() -> None:
    share = bound_for(10, {1000: ENOUGH_WRITES - 1}, 0)
    assert (share.bound, share.writes_percent) == (102, None)


def test_what_people_read() -> None:
    assert str(Share(31, 100 * 31 / SLOTS, 10.4)) == "10.4 % of writes (3.03 % of slots)"
    assert str(Share(102, 100 * 102 / SLOTS, None)) == "9.96 % of slots"


def test_a_share_survives_the_control_database() -> None:
    share = Share(31, 3.02734375, 10.4)
    assert Share.from_json({**share.as_json(), "measured": 500}) == share
