from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.planning.cost import migration_cost
from foreshard.planning.learnt_rates import LearntRates, Pause, RateKind, Sample
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.prediction import Prediction, predict
from foreshard.planning.timeline import Timeline

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
    assert cost.network == pytest.approx(2 * 8 / 36_000)
    assert cost.pause == pytest.approx(0.05 / 36_000)
    assert cost.verify == pytest.approx(2 * 0.1 * 20 / 36_000)
    assert cost.operator == 0.002
    assert cost.total == pytest.approx((20 + 10 + 16 + 0.05 + 4) / 36_000 + 0.002)
    assert list(cost.parts) == ["copy", "wal", "network", "pause", "operator", "verify"]


def test_learnt_rates_and_pauses_change_the_cost() -> None:
    at = NOW - timedelta(days=1)
    learnt = LearntRates(
        (Sample("one", "two", RateKind.COPY_PIPE, 10**9, 50.0, 1, at),), (Pause("one", "two", 0.4, 1, at),)
    )
    cost = migration_cost(predict("one", "two", 10**9, learnt, POLICY), 36_000, POLICY)
    assert cost.copy == pytest.approx(2 * 0.1 * 50 / 36_000)
    assert cost.pause == pytest.approx(0.4 / 36_000)


@given(st.integers(0, 10**13), st.integers(0, 10**13))
def test_more_bytes_cost_more(one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert migration_cost(of(low), 86_400, POLICY).total <= migration_cost(of(high), 86_400, POLICY).total
    assert of(low).total_s <= of(high).total_s


def test_an_end_after_the_excess_begins_is_late() -> None:
    excess = NOW + timedelta(hours=2)
    when = Timeline(NOW, excess - timedelta(seconds=790), excess, 790.0, 50.0)
    assert (when.ends_at, when.late) == (NOW + timedelta(seconds=790), False)
    assert replace(when, not_before=NOW + timedelta(hours=1, minutes=47)).late
