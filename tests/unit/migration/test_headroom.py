"""What kept WAL and free disk mean: never milder when it gets tighter."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.migration.headroom import Verdict, fits, judge, judge_disk
from foreshard.postgres.room import Disk, Slot

BUDGET = 1000
SIZES = st.integers(0, 10_000)
SLOTS = st.builds(
    Slot,
    name=st.just("slot"),
    wal_status=st.sampled_from(["reserved", "extended", "unreserved"]),
    retained_bytes=SIZES,
    safe_bytes=st.none() | st.integers(-1000, 10_000),
    keep_bytes=st.just(5000),
)


def slot(retained: int, status: str = "reserved", safe: int | None = None, keep: int | None = None) -> Slot:
    return Slot("slot", status, retained, safe, keep)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (slot(0), Verdict.FINE),
        (slot(500), Verdict.FINE),
        (slot(501), Verdict.WARN),
        (slot(750), Verdict.WARN),
        (slot(751), Verdict.THROTTLE),
        (slot(1000), Verdict.THROTTLE),
        (slot(1001), Verdict.STOP),
        (slot(900, "extended"), Verdict.THROTTLE),
        (slot(0, "unreserved"), Verdict.STOP),
        (slot(0, "reserved", 499, 5000), Verdict.STOP),
        (slot(0, "reserved", 500, 5000), Verdict.FINE),
        (slot(0, "reserved", -1, 5000), Verdict.STOP),
        (Slot("slot", "lost", None, None, 5000), Verdict.LOST),
    ],
)
def test_thresholds(found: Slot, verdict: Verdict) -> None:
    assert judge(found, BUDGET) is verdict


@given(SLOTS, SIZES, st.integers(1, 10_000))
def test_more_wal_is_never_milder(found: Slot, more: int, budget: int) -> None:
    worse = replace(found, retained_bytes=(found.retained_bytes or 0) + more)
    assert judge(worse, budget) >= judge(found, budget)


@given(SLOTS, SIZES, st.integers(1, 10_000))
def test_less_left_is_never_milder(found: Slot, less: int, budget: int) -> None:
    worse = replace(found, safe_bytes=None if found.safe_bytes is None else found.safe_bytes - less)
    assert judge(worse, budget) >= judge(found, budget)


@given(SLOTS, st.integers(1, 10_000), SIZES)
def test_a_bigger_budget_is_never_stricter(found: Slot, budget: int, more: int) -> None:
    assert judge(found, budget + more) <= judge(found, budget)


@given(SLOTS, st.integers(1, 10_000))
def test_a_slot_is_given_up_before_it_is_lost(found: Slot, budget: int) -> None:
    """Whatever the budget: no room left before the server's limit is reason enough."""
    if found.safe_bytes is not None and found.safe_bytes <= 0:
        assert judge(found, budget) is Verdict.STOP


@given(SIZES, SIZES, SIZES)
def test_less_disk_is_never_milder(free: int, less: int, minimum: int) -> None:
    assert judge_disk(Disk(free - less, "measured"), minimum) >= judge_disk(Disk(free, "measured"), minimum)


def test_disk_stops_below_the_minimum_and_warns_near_it() -> None:
    verdicts = [judge_disk(Disk(free, "declared"), 1000) for free in (999, 1000, 1999, 2000)]
    assert verdicts == [Verdict.STOP, Verdict.WARN, Verdict.WARN, Verdict.FINE]
    assert judge_disk(Disk(None, "unknown"), 1000) is Verdict.FINE


@given(SIZES, SIZES, SIZES)
def test_what_fits_leaves_the_minimum(copy: int, free: int, minimum: int) -> None:
    if fits(copy, Disk(free, "measured"), minimum):
        assert judge_disk(Disk(free - copy, "measured"), minimum) is not Verdict.STOP
