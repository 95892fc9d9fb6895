"""What a newer forecast says of a migration that waits for a person."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from foreshard.planning.plan import Purpose
from foreshard.planning.planner import decide
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.recheck import recheck
from foreshard.planning.view import FleetView

POLICY = DecisionPolicy(start="now")


@pytest.mark.parametrize(("peak", "supported"), [(1.15, True), (0.6, False)])
def test_relief_is_supported_while_its_source_would_be_at_risk(
    build: Callable[..., FleetView], peak: float, supported: bool
) -> None:
    (plan,) = decide(build({"shard-1": 1.15, "shard-2": 0.3}), POLICY).plans
    newer = replace(build({"shard-1": peak, "shard-2": 0.3}), moving=dict.fromkeys(plan.buckets, plan.target))
    assert decide(newer, POLICY).plans == (), "it counts as done"
    found = recheck(newer, {7: plan}, POLICY)
    assert found[7].supported is supported
    assert (found[7].risk > POLICY.migration_threshold) is supported


def test_other_purposes_are_asked_for_by_state_and_policy(build: Callable[..., FleetView]) -> None:
    view = build({"shard-1": 0.5, "shard-2": 0.3})
    (plan,) = decide(build({"shard-1": 1.15, "shard-2": 0.3}), POLICY).plans

    def supported(purpose: Purpose, seen: FleetView = view, policy: DecisionPolicy = POLICY) -> bool:
        return recheck(seen, {1: replace(plan, purpose=purpose)}, policy)[1].supported

    assert not supported(Purpose.DRAIN)
    assert supported(Purpose.DRAIN, replace(view, draining=frozenset({"shard-1"})))
    assert not supported(Purpose.PIN)
    assert supported(Purpose.PIN, policy=DecisionPolicy(pins={plan.buckets[0]: plan.target}))
    assert not supported(Purpose.BALANCE)
    assert supported(Purpose.BALANCE, policy=DecisionPolicy(balance=True))


def test_a_source_without_a_forecast_is_left_out(build: Callable[..., FleetView]) -> None:
    (plan,) = decide(build({"shard-1": 1.15, "shard-2": 0.3}), POLICY).plans
    assert recheck(build({"shard-2": 0.3, "shard-3": 0.3}), {1: plan}, POLICY) == {}
