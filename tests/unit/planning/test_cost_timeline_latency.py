from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.planning.cost import migration_cost
from foreshard.planning.latency import stretch
from foreshard.planning.learnt_rates import LearntRates
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.prediction import Prediction, predict
from foreshard.planning.timeline import timeline

NOW = datetime(2013, 11, 27, 18, tzinfo=UTC)
POLICY = DecisionPolicy(
    copy_bytes_per_s=10e6,
    verify_bytes_per_s=50e6,
    wal_bytes_per_s=100e6,
    network_bytes_per_s=125e6,
    copy_load=0.1,
    catch_up_s=10,
    soak_s=60,
    margin_s=600,
    expected_pause_s=0.05,
    operator_overhead=0.002,
)


def of(size_bytes: int) -> Prediction:
    """Where nothing was learnt."""
    return predict("one", "two", size_bytes, LearntRates(), POLICY)


def test_cost_by_hand() -> None:
    cost = migration_cost(of(1_000_000_000), 36_000, POLICY)
    assert cost.copy == pytest.approx(2 * 0.1 * 100 / 36_000)
    assert cost.wal == pytest.approx(10 / 36_000)
    assert cost.network == pytest.approx(8 / 36_000)
    assert cost.pause == pytest.approx(0.05 / 36_000)
    assert cost.operator == 0.002
    assert cost.total == pytest.approx(cost.copy + cost.wal + cost.network + cost.pause + cost.operator)


@given(st.integers(0, 10**13), st.integers(0, 10**13))
def test_more_bytes_cost_more(one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert migration_cost(of(low), 86_400, POLICY).total <= migration_cost(of(high), 86_400, POLICY).total
    assert of(low).total_s <= of(high).total_s


def test_timeline_by_hand() -> None:
    excess = NOW + timedelta(hours=2)
    when = timeline(NOW, excess, of(1_000_000_000))
    assert when.predicted_s == pytest.approx(100 + 10 + 20 + 60 + 600)
    assert when.start_by == excess - timedelta(seconds=790)
    assert (when.not_before, when.excess_at, when.late) == (NOW, excess, False)
    assert when.predicted_pause_ms == pytest.approx(50)


def test_an_excess_that_comes_too_soon_is_late_and_none_sets_no_deadline() -> None:
    assert timeline(NOW, NOW + timedelta(minutes=5), of(0)).late
    assert timeline(NOW, NOW - timedelta(minutes=5), of(0)).late
    unhurried = timeline(NOW, None, of(0))
    assert (unhurried.start_by, unhurried.late) == (NOW, False)


def test_stretch_by_hand() -> None:
    assert stretch(np.array([0.0, 0.5, 0.9, 0.99])) == pytest.approx([1.0, 2.0, 10.0, 100.0])
    assert stretch(np.array([1.0, 3.0])) == pytest.approx([100.0, 100.0])
