"""The rate of a copy, told by a clock that the test turns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.migration.copying.pace import BURST_S, HOLD, SLOWEST_BYTES_PER_S, Pace


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@given(
    rate=st.floats(1e3, 1e9),
    sizes=st.lists(st.integers(1, 2**18), min_size=1, max_size=50),
    pauses=st.lists(st.floats(0, 0.5), min_size=50, max_size=50),
)
def test_whoever_waits_as_told_never_exceeds_the_limit_by_more_than_a_burst(
    rate: float, sizes: list[int], pauses: list[float]
) -> None:
    clock = Clock()
    pace, begun, passed = Pace(rate, clock), clock.now, 0
    for size, pause in zip(sizes, pauses, strict=False):
        clock.now += pause
        clock.now += pace.wait_s(size)
        passed += size
        assert passed <= rate * (clock.now - begun + BURST_S) * (1 + 1e-6) + 1


def test_without_a_limit_nobody_waits() -> None:
    assert Pace(None, Clock()).wait_s(2**30) == 0.0


def test_workers_share_the_rate() -> None:
    pace = Pace(1000.0, Clock())
    assert pace.wait_s(500) == pytest.approx(0.5)
    assert pace.wait_s(500) == pytest.approx(1.0)
    assert pace.waited_s == pytest.approx(1.5)


@given(st.lists(st.floats(0, 2), min_size=1, max_size=200), st.floats(1e5, 1e9))
def test_it_slows_down_above_the_limit_only_and_never_stops(seen: list[float], present: float) -> None:
    pace = Pace(None, Clock())
    for utilisation in seen:
        before = pace.bytes_per_s
        pace.follow(utilisation, 0.85, present)
        after = pace.bytes_per_s
        if utilisation > 0.85:
            assert after is not None
            assert after >= SLOWEST_BYTES_PER_S
            assert before is None or after <= max(before, SLOWEST_BYTES_PER_S)
        elif before is not None and utilisation < 0.85 - HOLD:
            assert after is None or after > before
        else:
            assert after == before


def test_the_lower_of_two_limits_holds() -> None:
    pace = Pace(1e6, Clock())
    pace.begin(5e6)
    assert pace.bytes_per_s == 1e6
    pace.begin(1e5)
    assert pace.bytes_per_s == SLOWEST_BYTES_PER_S
