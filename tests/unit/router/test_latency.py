from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.router.latency import LatencyHistogram


@given(st.lists(st.floats(1e-5, 30), min_size=1), st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_quantiles_are_within_a_tenth(seconds: list[float], q: float) -> None:
    histogram = LatencyHistogram()
    for each in seconds:
        histogram.add(each)
    ordered = sorted(seconds)
    true = next(s for i, s in enumerate(ordered, 1) if i >= q * len(ordered)) * 1000
    assert true * 0.999 <= histogram.quantile_ms(q) <= true * 1.101
    assert histogram.max_ms == pytest.approx(ordered[-1] * 1000)


def test_merge_adds_up_and_empty_is_zero() -> None:
    one, other = LatencyHistogram(), LatencyHistogram()
    assert one.summary() == {"count": 0, "p50_ms": 0.0, "p99_ms": 0.0, "max_ms": 0.0}
    other.add(0.005)
    other.add(3600.0)  # beyond the last cell
    one.merge(other)
    assert (one.count, one.max_ms, one.quantile_ms(0.99)) == (2, 3_600_000.0, pytest.approx(38_000, rel=0.1))
