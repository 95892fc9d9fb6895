from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from foreshard.errors import InvalidInput
from foreshard.forecast.peak import LEAST, PEAK_LEVELS, Peak, above

NORMAL = Peak(np.maximum(100 + 10 * norm.ppf(PEAK_LEVELS), 0.0))


@pytest.mark.parametrize("capacity", [60.0, 78.0, 90.0, 100.0, 113.0, 122.0])
def test_probability_of_exceeding_a_capacity(capacity: float) -> None:
    assert NORMAL.above(capacity) == pytest.approx(norm.sf(capacity, 100, 10), abs=0.01)


def test_beyond_the_outermost_level_an_exponential_tail() -> None:
    assert NORMAL.above(130) < NORMAL.above(126) < 0.005
    assert NORMAL.above(70) > NORMAL.above(74) > 0.995
    assert NORMAL.above(1e6) == pytest.approx(1e-4), "no forecast is certain"
    assert NORMAL.above(0) == pytest.approx(1 - 1e-4)


def test_load_of_just_the_capacity_does_not_exceed_it() -> None:
    """A bucket that is idle in four windows of five: what is certain at zero is no excess of zero."""
    values = np.maximum(np.linspace(-8, 2, len(PEAK_LEVELS)), 0.0)
    idle = Peak(values)
    zeros = PEAK_LEVELS[int((values == 0).sum()) - 1]
    assert idle.above(0.0) == pytest.approx(1 - zeros)


def test_a_peak_without_width_is_certain() -> None:
    assert Peak(np.full(17, 5.0)).above(4.9) == 1.0
    assert Peak(np.full(17, 5.0)).above(5.0) == 0.0


def one_above(values: list[float], capacity: float) -> float:
    """Of one distribution, case by case."""
    if values[0] == values[-1]:
        return float(values[0] > capacity)
    if capacity >= values[-1]:
        width = values[-1] - values[-3]
        left = (
            math.exp(-(capacity - values[-1]) * math.log(5) / width) if width > 0 else capacity <= values[-1]
        )
        return max(LEAST, 0.005 * left)
    if capacity < values[0]:
        width = values[2] - values[0]
        left = math.exp(-(values[0] - capacity) * math.log(5) / width) if width > 0 else 0.0
        return min(1 - LEAST, 1 - 0.005 * left)
    return 1.0 - float(np.interp(capacity, values, PEAK_LEVELS))


@given(st.lists(st.lists(st.floats(0, 3), min_size=17, max_size=17), min_size=1, max_size=6), st.floats(0, 4))
def test_of_many_at_once_it_is_as_of_each(values: list[list[float]], capacity: float) -> None:
    values = [sorted(one) for one in values]
    said = above(np.array(values), capacity)
    assert said.tolist() == pytest.approx([one_above(one, capacity) for one in values], abs=1e-9)


@given(st.lists(st.floats(0, 1e12), min_size=17, max_size=17), st.lists(st.floats(0, 2e12), min_size=2))
def test_the_higher_the_capacity_the_less_likely(values: list[float], capacities: list[float]) -> None:
    peak = Peak(np.sort(np.array(values)))
    said = [peak.above(capacity) for capacity in sorted(capacities)]
    assert all(0.0 <= one <= 1.0 for one in said)
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(said))


@pytest.mark.parametrize(
    "bad", [np.zeros(3), np.full(17, np.nan), np.linspace(-1, 1, 17), np.linspace(1, 0, 17)]
)
def test_what_is_no_distribution_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(InvalidInput, match="values"):
        Peak(bad)
