from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.risk import score, shard_risk
from foreshard.planning.view import FleetView

DEFAULTS = DecisionPolicy()
loads = st.floats(0, 10)
capacities = st.floats(0.01, 10)


def seed_rule(predicted: float, current: float, capacity: float, migration_cost: float) -> float:
    """The seed's rule, letter by letter."""
    return 0.8 * max(0, predicted - capacity) + 0.2 * max(0, current - 0.8 * capacity) - migration_cost


@given(loads, loads, st.floats(0, 2))
@example(1.0, 0.8, 0.0)
@example(0.0, 0.0, 0.0)
@example(1.0, 1.0, 0.02)
def test_is_the_seeds_rule_in_units_of_capacity(predicted: float, current: float, cost: float) -> None:
    assert score(predicted, current, 1.0, cost, DEFAULTS) == pytest.approx(
        seed_rule(predicted, current, 1.0, cost), abs=1e-12
    )


@given(loads, loads, capacities, st.floats(0, 2))
def test_is_the_seeds_rule_over_capacity(
    predicted: float, current: float, capacity: float, cost: float
) -> None:
    literal = seed_rule(predicted, current, capacity, cost * capacity) / capacity
    assert score(predicted, current, capacity, cost, DEFAULTS) == pytest.approx(literal, abs=1e-9)


@given(loads, loads, capacities, st.floats(0, 3), st.floats(0, 3), st.floats(0.1, 1))
def test_every_number_of_it_can_be_changed(
    predicted: float, current: float, capacity: float, ahead: float, present: float, knee: float
) -> None:
    policy = DecisionPolicy(predicted_weight=ahead, current_weight=present, knee=knee)
    literal = ahead * max(0, predicted - capacity) + present * max(0, current - knee * capacity)
    assert score(predicted, current, capacity, 0.0, policy) * capacity == pytest.approx(literal, abs=1e-9)


def test_a_shard_is_as_risky_as_its_worst_resource(build: Callable[..., FleetView]) -> None:
    (shard,) = build({"shard-1": 1.2}).shards
    risk = shard_risk(shard, DEFAULTS)
    assert risk.worst == "queries_per_s"
    assert risk.score == pytest.approx(0.8 * 0.2)
    assert risk.worst_resource.predicted_utilisation == pytest.approx(1.2)
    assert risk.worst_resource.capacity == 100.0
    assert risk.utilisation == pytest.approx(0.6)
    assert [one.metric for one in risk.resources] == ["cpu_cores", "queries_per_s"]
    assert risk.excess_at == risk.worst_resource.excess_at
    assert risk.excess_at is not None
    assert risk.excess_at.hour == 22  # the first of the hours above 1 / 1.2 of the peak


def test_below_capacity_and_knee_there_is_no_risk(build: Callable[..., FleetView]) -> None:
    (shard,) = build({"shard-1": 0.99}).shards
    risk = shard_risk(shard, DEFAULTS)
    assert (risk.score, risk.excess_at) == (0.0, None)


def test_the_cost_is_taken_off_every_score(build: Callable[..., FleetView]) -> None:
    (shard,) = build({"shard-1": 1.2}).shards
    before = shard_risk(shard, DEFAULTS)
    after = before.less(0.01)
    assert after.score == pytest.approx(before.score - 0.01)
    assert after.cost == pytest.approx(0.01)
    assert after.worst_resource.score == after.score
