from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from foreshard.forecast.peak import PEAK_LEVELS, Peak
from foreshard.planning.loads import fleet_loads
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.risk import ShardRisk, exceeding, level_score, score, shard_risks
from foreshard.planning.view import FleetView

DEFAULTS = DecisionPolicy()
loads = st.floats(0, 10)
capacities = st.floats(0.01, 10)


def seed_rule(predicted: float, current: float, capacity: float, migration_cost: float) -> float:
    """The seed's rule, letter by letter."""
    return 0.8 * max(0, predicted - capacity) + 0.2 * max(0, current - 0.8 * capacity) - migration_cost


def risk_of_the_first(view: FleetView, policy: DecisionPolicy) -> ShardRisk:
    return shard_risks(view, fleet_loads(view, policy), [0], policy)[0]


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


@pytest.mark.parametrize("rule", ["threshold", "probabilistic"])
def test_a_shard_is_as_risky_as_its_worst_resource(build: Callable[..., FleetView], rule: str) -> None:
    policy = DecisionPolicy(policy=rule)
    view = build({"shard-1": 1.2})
    risk = risk_of_the_first(view, policy)
    assert risk.worst == "queries_per_s"
    assert risk.worst_resource.capacity == 100.0
    assert risk.utilisation == pytest.approx(0.6)
    assert [one.metric for one in risk.resources] == ["cpu_cores", "queries_per_s"]
    assert risk.excess_at == risk.worst_resource.excess_at
    assert risk.excess_at is not None
    if rule == "threshold":
        assert risk.score == pytest.approx(0.8 * 0.2)
        assert risk.worst_resource.predicted_utilisation == pytest.approx(1.2)
        assert risk.excess_at.hour == 22  # the first of the hours above 1 / 1.2 of the peak
        assert risk.worst_resource.exceeds is None
    else:
        of = risk.worst_resource
        assert of.exceeds is not None
        assert of.expected_excess is not None
        assert 0.5 < of.exceeds < 0.9
        assert risk.score == pytest.approx(0.8 * (of.exceeds + of.expected_excess))
        assert risk.excess_at.hour == 21  # at the level that one window in twenty exceeds


def test_below_capacity_and_knee_there_is_no_risk(build: Callable[..., FleetView]) -> None:
    view, policy = build({"shard-1": 0.99}), DecisionPolicy(policy="threshold")
    risk = risk_of_the_first(view, policy)
    assert (risk.score, risk.excess_at) == (0.0, None)


@given(st.lists(st.floats(0, 3), min_size=len(PEAK_LEVELS), max_size=len(PEAK_LEVELS)))
def test_the_expected_excess_is_that_of_a_sample(values: list[float]) -> None:
    """Against draws of the same distribution, which goes in straight lines from level to level."""
    peaks = np.sort(values)
    exceeds, excess = exceeding(peaks)
    drawn = np.interp((np.arange(20_000) + 0.5) / 20_000, PEAK_LEVELS, peaks)
    assert excess == pytest.approx(np.maximum(drawn - 1, 0).mean(), abs=0.02)
    assert exceeds == pytest.approx((drawn > 1).mean(), abs=0.02)


@given(st.lists(st.lists(st.floats(0, 3), min_size=17, max_size=17), min_size=1, max_size=6))
def test_of_many_at_once_it_is_as_of_each(values: list[list[float]]) -> None:
    peaks = np.sort(np.array(values))
    together = exceeding(peaks)
    for at, one in enumerate(peaks):
        assert together[0][at] == pytest.approx(Peak(one).above(1.0), abs=1e-12)
        assert together[1][at] == pytest.approx(exceeding(one)[1], abs=1e-12)


@given(st.floats(0, 3), st.floats(0, 2))
def test_of_a_forecast_that_is_certain_only_the_excess_is_not_the_seeds(peak: float, now: float) -> None:
    certain = np.full(len(PEAK_LEVELS), peak)
    seeds = seed_rule(peak, now, 1.0, 0.0)
    assert level_score(certain, np.array(now), DEFAULTS) == pytest.approx(seeds + 0.8 * (peak > 1))


def test_the_cost_is_taken_off_every_score(build: Callable[..., FleetView]) -> None:
    view = build({"shard-1": 1.2})
    before = risk_of_the_first(view, DEFAULTS)
    after = before.less(0.01)
    assert after.score == pytest.approx(before.score - 0.01)
    assert after.cost == pytest.approx(0.01)
    assert after.worst_resource.score == after.score
