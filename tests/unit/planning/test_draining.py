"""A shard that is being drained: emptied after shards at risk are helped, and never given anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.planning.explain import explain
from foreshard.planning.plan import Decision, MigrationPlan, Purpose, Question
from foreshard.planning.planner import decide
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.view import FleetView

BuildView = Callable[..., FleetView]

DEFAULTS = DecisionPolicy()
SHARDS = ("shard-1", "shard-2", "shard-3", "shard-4")

fleets = st.fixed_dictionaries({name: st.floats(0.05, 1.5) for name in SHARDS})


@given(peaks=fleets, draining=st.sets(st.sampled_from(SHARDS)))
def test_nothing_is_moved_onto_it(build: BuildView, peaks: dict[str, float], draining: set[str]) -> None:
    decision = decide(build(peaks, draining=frozenset(draining)), DEFAULTS)
    assert not draining & {plan.target for plan in decision.plans}
    for plan in decision.plans:
        for effect in plan.effects:
            assert effect.shard != plan.target or effect.peak_after <= effect.limit + 1e-6
    told = {plan.source for plan in decision.plans} | {note.split(":")[0] for note in decision.notes}
    assert draining <= told | {plan.target for plan in decision.plans}
    assert Decision.from_json(decision.to_json()) == decision


@given(
    peaks=st.fixed_dictionaries({name: st.floats(0.05, 0.55) for name in SHARDS}),
    gone=st.sampled_from(SHARDS),
)
def test_only_the_buckets_of_a_shard_that_leaves_move(
    build: BuildView, peaks: dict[str, float], gone: str
) -> None:
    view = build(peaks, draining=frozenset({gone}))
    decision = decide(view, DEFAULTS)
    moved = [name for plan in decision.plans for name in plan.buckets]
    its = [name for name in view.buckets.names if name.startswith(gone)]
    assert set(moved) <= set(its)
    assert sorted(moved) == its or any(
        note.startswith(f"{gone}: is to be drained") for note in decision.notes
    )


def test_it_is_emptied_where_there_is_room(build: BuildView) -> None:
    view = build({"shard-1": 0.3, "shard-2": 0.1, "shard-3": 0.2}, draining=frozenset({"shard-1"}))
    (plan,) = decide(view, DEFAULTS).plans
    assert (plan.source, len(plan.buckets)) == ("shard-1", 8)
    assert [one.question for one in plan.reasons] == list(Question)
    assert "With them it is empty" in explain(plan)
    assert MigrationPlan.from_json(plan.to_json()) == plan


def test_what_has_no_room_stays_for_a_later_plan(build: BuildView) -> None:
    view = build({"shard-1": 0.9, "shard-2": 0.55}, draining=frozenset({"shard-1"}))
    decision = decide(view, DecisionPolicy(target_ceiling=0.8))
    (plan,) = decision.plans
    assert 0 < len(plan.buckets) < 8
    assert "go elsewhere, or later" in explain(plan)
    assert decision.shortage is not None


@pytest.mark.parametrize(
    ("peaks", "more", "note"),
    [
        ({"shard-1": 0.3, "shard-2": 0.79}, {}, "no shard has room"),
        ({"shard-1": 0.3}, {}, "no shard is free"),
        ({"shard-1": 0.0, "shard-2": 0.1}, {}, "foreshard shard remove shard-1"),
        (
            {"shard-1": 0.3, "shard-2": 0.1},
            {"moving": {f"shard-1-b{number:02}": "shard-1" for number in range(8)}},
            "is moving already",
        ),
    ],
)
def test_why_it_is_not_emptied_is_a_note(
    build: BuildView, peaks: dict[str, float], more: dict[str, Any], note: str
) -> None:
    decision = decide(build(peaks, draining=frozenset({"shard-1"}), **more), DEFAULTS)
    assert not decision.plans
    assert note in " ".join(decision.notes)


def test_a_shard_at_risk_gets_the_room_first(build: BuildView) -> None:
    peaks = {"shard-1": 0.3, "shard-2": 1.2, "shard-3": 0.1}
    plans = decide(build(peaks, draining=frozenset({"shard-1"})), DEFAULTS).plans
    assert [(plan.purpose, plan.source, plan.target) for plan in plans] == [
        (Purpose.RELIEF, "shard-2", "shard-3"),
        (Purpose.DRAIN, "shard-1", "shard-3"),
    ]
    assert plans[1].after == (0,)


def test_what_leaves_has_no_part_in_the_fair_share(build: BuildView) -> None:
    peaks = {"shard-1": 0.5, "shard-2": 0.5, "shard-3": 0.5}
    policy = DecisionPolicy(balance_above=0.0)
    plan = decide(build(peaks, draining=frozenset({"shard-1"})), policy).plans[0]
    # Two shards bear what three did: 0.75 of each, and epsilon above it, at most the ceiling.
    limits = {effect.limit for effect in plan.effects if effect.shard == plan.target}
    assert max(limits) == pytest.approx(min(policy.target_ceiling, 0.75 * (1 + policy.epsilon)), abs=0.02)
