from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.planning import planner
from foreshard.planning.explain import explain
from foreshard.planning.loads import FleetLoads
from foreshard.planning.loads import planned_level as level_of
from foreshard.planning.plan import MigrationPlan, Purpose, Question
from foreshard.planning.planner import decide
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.schedule import schedule
from foreshard.planning.view import FleetView
from tests.unit.planning.fleets import NEARLY, drawn, loads_at, planned_level, policies

BuildView = Callable[..., FleetView]

DEFAULTS = DecisionPolicy()
NOW = DecisionPolicy(start="now")


@given(drawn(), policies)
def test_the_same_input_gives_the_same_decision(
    build: BuildView, fleet: dict[str, Any], policy: DecisionPolicy
) -> None:
    assert decide(build(**fleet), policy) == decide(build(**fleet), policy)


@given(drawn(), policies)
def test_every_risk_is_relieved_or_noted(
    build: BuildView, fleet: dict[str, Any], policy: DecisionPolicy
) -> None:
    decision = decide(build(**fleet), policy)
    planned = {plan.source for plan in decision.plans if plan.purpose is Purpose.RELIEF}
    for risk in decision.risks:
        if risk.score + risk.cost > policy.migration_threshold:
            assert risk.shard in planned or any(note.startswith(f"{risk.shard}:") for note in decision.notes)
        else:
            assert risk.shard not in planned
    assert [risk.shard for risk in decision.risks] == sorted(risk.shard for risk in decision.risks)


@given(drawn(), policies)
def test_dropping_any_bucket_leaves_the_source_above_its_threshold(
    build: BuildView, fleet: dict[str, Any], policy: DecisionPolicy
) -> None:
    """Or, where the fleet has too little room, every bucket that went brought it nearer."""
    view = build(**fleet)
    decision = decide(view, policy)
    for source in {plan.source for plan in decision.plans if plan.purpose is Purpose.RELIEF}:
        plans = [plan for plan in decision.plans if plan.source == source]
        row = view.shards.names.index(source)

        strained = plans[0].strained
        assert all(plan.strained == strained for plan in plans)
        ceiling = policy.target_ceiling if strained is None else policy.strained_ceiling

        def above(
            plans: list[MigrationPlan],
            row: int = row,
            ceiling: float = ceiling,
            strained: float | None = strained,
        ) -> float:
            path = loads_at(view, policy, planned_level(policy, strained), plans)[row]
            moved = {name for plan in plans for name in plan.buckets}
            rows = [at for at, name in enumerate(view.buckets.names) if name in moved]
            here, first = view.shards.at(0.5)[row, :, 0], view.buckets.load[rows][:, :, 0].sum(axis=0)
            part = np.divide(first, here, out=np.zeros_like(here), where=here > 0)
            now = view.shards.current[row] * (1 - part) / view.shards.capacity[row]
            return max(float(path.max()) - ceiling, float(now.max()) - policy.knee)

        for plan in plans:
            for bucket in plan.buckets:
                others = [
                    replace(one, buckets=tuple(name for name in one.buckets if name != bucket))
                    if one is plan and len(one.buckets) > 1
                    else one
                    for one in plans
                    if one is not plan or len(plan.buckets) > 1
                ]
                assert above(others) > -NEARLY


@given(drawn(), policies)
def test_no_target_is_overloaded_beyond_the_stated_probability(
    build: BuildView, fleet: dict[str, Any], policy: DecisionPolicy
) -> None:
    """At every level up to the stated one, at every step, whatever order the plans end in."""
    view = build(**fleet)
    plans = decide(view, policy).plans
    for strained in (None, policy.strained_probability, policy.strained_above):
        ceiling = policy.target_ceiling if strained is None else policy.strained_ceiling
        stated = planned_level(policy, strained)
        targets = {plan.target for plan in plans if plan.strained == strained}
        # A plan by a lesser standard may bring a shard above the ceiling afterwards.
        targets -= {plan.target for plan in plans if (plan.strained or 0.0) > (strained or 0.0)}
        rows = [view.shards.names.index(name) for name in sorted(targets)]
        for level in (0.5, 0.9, stated):
            if level <= stated and rows:
                assert loads_at(view, policy, level, plans)[rows].max() <= ceiling + NEARLY
    for plan in plans:
        for effect in plan.effects:
            assert effect.shard != plan.target or effect.peak_after <= effect.limit + NEARLY


@given(drawn(), policies)
def test_buckets_lie_on_their_source_and_move_once(
    build: BuildView, fleet: dict[str, Any], policy: DecisionPolicy
) -> None:
    view = build(**fleet)
    plans = decide(view, policy).plans
    homes = dict(zip(view.buckets.names, view.buckets.shard, strict=True))
    moved = [name for plan in plans for name in plan.buckets]
    assert len(moved) == len(set(moved))
    assert all(view.shards.names[homes[name]] == plan.source for plan in plans for name in plan.buckets)
    order = [(list(Purpose).index(plan.purpose), -plan.priority) for plan in plans]
    assert order == sorted(order)


@given(drawn(), policies)
def test_a_shard_is_in_one_migration_at_a_time_and_budgets_are_kept(
    build: BuildView, fleet: dict[str, Any], policy: DecisionPolicy
) -> None:
    view = build(**fleet)
    plans = decide(view, policy).plans
    spans = [(plan.timeline.not_before, plan.timeline.ends_at, {plan.source, plan.target}) for plan in plans]
    for at, (begin, end, ends) in enumerate(spans):
        assert begin >= view.now
        for other, stop, others in spans[at + 1 :]:
            if ends & others:
                assert stop <= begin or end <= other
    for begin, _, _ in spans:
        assert sum(start <= begin < stop for start, stop, _ in spans) <= policy.max_migrations


@given(drawn(), st.data())
def test_resting_moving_and_pinned_buckets_are_left_alone(
    build: BuildView, fleet: dict[str, Any], data: st.DataObject
) -> None:
    view = build(**fleet)
    some = st.sets(st.sampled_from(view.buckets.names))
    moving, rested, pinned, unknown = (data.draw(some) for _ in range(4))
    homes = dict(zip(view.buckets.names, view.buckets.shard, strict=True))
    view = replace(
        view,
        moving=dict.fromkeys(moving, "shard-2"),
        unknown=dict.fromkeys(unknown, "no forecast"),
        buckets=replace(
            view.buckets,
            rested_s=np.array(
                [DEFAULTS.cooldown_s - 1 if n in rested else np.inf for n in view.buckets.names]
            ),
        ),
    )
    policy = DecisionPolicy(pins={name: view.shards.names[homes[name]] for name in pinned})
    for plan in decide(view, policy).plans:
        assert not (moving | rested | pinned | unknown) & set(plan.buckets)


@given(drawn(), policies)
def test_plans_and_decisions_survive_storage(
    build: BuildView, fleet: dict[str, Any], policy: DecisionPolicy
) -> None:
    decision = decide(build(**fleet), policy)
    assert type(decision).from_json(decision.to_json()) == decision
    for plan in decision.plans:
        assert MigrationPlan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("rule", ["threshold", "probabilistic"])
def test_a_plan_from_a_forecast_of_excess(build: BuildView, rule: str) -> None:
    """The product in one picture: nothing is hot now, one shard will be, one is empty."""
    view = build({"shard-1": 0.7, "shard-2": 0.7, "shard-3": 1.22, "shard-4": 0.0})
    decision = decide(view, DecisionPolicy(policy=rule))
    (plan,) = decision.plans
    assert (plan.source, plan.target) == ("shard-3", "shard-4")
    assert decision.max_utilisation == pytest.approx(0.61)
    assert decision.max_utilisation < decision.reactive_threshold
    assert plan.excess_at is not None
    assert plan.timeline.start_by > view.now
    assert plan.bytes == 7_000_000 * len(plan.buckets)
    source_risk = next(risk for risk in decision.risks if risk.shard == "shard-3")
    if rule == "threshold":
        assert plan.risk_before == pytest.approx(0.8 * 0.22)
    else:
        assert source_risk.worst_resource.exceeds == pytest.approx(0.82, abs=0.02)
        assert {one.exceeds_after for one in plan.effects} <= {0.0, 1e-4}
    assert plan.risk_after < 0.001
    assert plan.priority > 0
    assert source_risk.score == pytest.approx(plan.risk_before - plan.cost.total)
    assert not decision.notes
    assert decision.shortage is None


def test_of_two_that_need_the_one_empty_shard_the_riskier_gets_what_it_needs(build: BuildView) -> None:
    decision = decide(build({"shard-1": 1.2, "shard-2": 1.3, "shard-3": 0.0}), DEFAULTS)
    relieved = [plan for plan in decision.plans if plan.effects[1].peak_after <= plan.effects[1].limit]
    assert relieved[0].source == "shard-2"
    assert decision.shortage is not None
    assert decision.shortage.shards == 1


def test_several_targets_share_what_none_can_take_alone(build: BuildView) -> None:
    view = build({"shard-1": 1.2, "shard-2": 0.5, "shard-3": 0.5, "shard-4": 0.5})
    decision = decide(view, DEFAULTS)
    assert {plan.source for plan in decision.plans} == {"shard-1"}
    assert len({plan.target for plan in decision.plans}) == len(decision.plans) >= 2
    assert decision.shortage is None
    assert [plan.after for plan in decision.plans] == [tuple(range(at)) for at in range(len(decision.plans))]


def test_the_smallest_of_equal_buckets_go_first(build: BuildView) -> None:
    view = build({"shard-1": 1.2, "shard-2": 0.0}, sizes=(10**9, 10**6))
    (plan,) = decide(view, DEFAULTS).plans
    assert plan.bytes == 10**6 * len(plan.buckets)


def test_a_present_load_above_the_knee_needs_no_forecast_of_excess(build: BuildView) -> None:
    flat = np.full(7, 0.9)
    hot = build({"shard-1": 0.99, "shard-2": 0.1}, present=1.0, spread=flat, peak_spread=np.full(17, 0.9))
    (plan,) = decide(hot, NOW).plans
    assert plan.excess_at is None
    assert plan.timeline.start_by <= hot.now + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("peaks", "change", "said", "shards"),
    [
        ({"shard-1": 1.2}, {}, "no shard is free", 1),
        ({"shard-1": 1.3, "shard-2": 0.9}, {}, "no shard can take any of it", 1),
        ({"shard-1": 1.3, "shard-2": 1.3}, {}, "no shard is free", 2),
        (
            {"shard-1": 1.2, "shard-2": 0.0},
            {"parts": {"shard-1": []}},
            "every bucket is pinned, is moving",
            0,
        ),
    ],
)
def test_no_solution_is_a_note_and_says_what_is_missing(
    build: BuildView, peaks: dict[str, float], change: dict[str, object], said: str, shards: int
) -> None:
    decision = decide(build(peaks, **change), DEFAULTS)
    assert decision.plans == ()
    assert any(said in note for note in decision.notes)
    assert (0 if decision.shortage is None else decision.shortage.shards) == shards
    if decision.shortage is not None:
        assert decision.shortage.capacity == {"cpu_cores": 8.0, "queries_per_s": 100.0}


def test_without_room_for_the_ceiling_a_strained_one_is_kept(build: BuildView) -> None:
    view = build({"shard-1": 1.12, "shard-2": 0.8})
    decision = decide(view, DEFAULTS)
    (plan,) = decision.plans
    assert plan.strained is not None
    assert decision.shortage is not None
    assert "no room to keep the ceiling of 0.85" in explain(plan)
    for effect in plan.effects:
        assert effect.exceeds_after is not None
        assert effect.exceeds_after <= plan.strained + NEARLY
    assert decide(view, DecisionPolicy(strained_ceiling=0.8)).plans == ()


def test_a_strained_shard_is_left_alone_until_it_presses(build: BuildView) -> None:
    """Or each forecast would move a little."""
    view = build({"shard-1": 0.99, "shard-2": 0.8})
    decision = decide(view, DEFAULTS)
    assert decision.risks[0].score > DEFAULTS.migration_threshold
    assert decision.plans == ()
    assert "nothing is moved" in decision.notes[0]
    assert decision.shortage is not None
    (plan,) = decide(
        view, DecisionPolicy(strained_above=0.05, strained_probability=0.05, minimum_gain=0)
    ).plans
    assert plan.strained is not None


def test_what_is_less_likely_than_not_does_not_strain_others_more(build: BuildView) -> None:
    """A target may pass the ceiling with ``strained_above`` only for a shard that passes it by the median forecast."""
    policy = DecisionPolicy(minimum_gain=0)
    assert decide(build({"shard-1": 1.06, "shard-2": 0.88}), policy).plans == ()
    (plan,) = decide(build({"shard-1": 1.12, "shard-2": 0.88}), policy).plans
    assert plan.strained == policy.strained_above


def test_times_are_found_by_the_level_that_moves_were_chosen_by(
    build: BuildView, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a stricter one the target has no room for what was chosen, at any time."""
    policy = DecisionPolicy(minimum_gain=0)
    levels = []

    def watched(drafts: Any, view: Any, loads: FleetLoads, policy: Any) -> Any:
        levels.append(loads.planned)
        return schedule(drafts, view, loads, policy)

    monkeypatch.setattr(planner, "schedule", watched)
    for peaks, probability in (
        ({"shard-1": 1.2, "shard-2": 0.0}, policy.relief_probability),
        ({"shard-1": 1.12, "shard-2": 0.8}, policy.strained_probability),
        ({"shard-1": 1.12, "shard-2": 0.88}, policy.strained_above),
    ):
        assert decide(build(peaks), policy).plans
        assert levels.pop() == level_of(probability, policy)


def test_a_bucket_that_fills_a_shard_is_said_to(build: BuildView) -> None:
    view = build({"shard-1": 1.4, "shard-2": 0.0}, parts={"shard-1": [1.0]})
    decision = decide(view, DEFAULTS)
    assert decision.plans == ()
    assert "shard-2" in decision.notes[0]
    assert decision.shortage is not None
    assert "shard-1-b00 alone would fill one" in decision.shortage.text


def test_a_move_that_costs_more_than_it_saves_is_not_made(build: BuildView) -> None:
    view = build({"shard-1": 1.2, "shard-2": 0.0})
    decision = decide(view, DecisionPolicy(operator_overhead=2.0))
    assert decision.plans == ()
    assert "would cost" in decision.notes[0]
    assert decision.risks[0].score < 0
    decision = decide(view, DecisionPolicy(minimum_gain=0.95))
    assert "minimum gain" in decision.notes[0]


def test_a_bucket_does_not_go_back_so_soon(build: BuildView) -> None:
    fleet: dict[str, Any] = {"peaks": {"shard-1": 1.2, "shard-2": 0.0}}
    names = build(**fleet).buckets.names
    lately = {"rested_s": dict.fromkeys(names, 90_000.0), "came_from": dict.fromkeys(names, "shard-2")}
    assert decide(build(**fleet, **lately), DEFAULTS).plans == ()
    assert decide(build(**fleet, **lately), DecisionPolicy(no_return_s=80_000)).plans


def test_what_is_to_be_apart_does_not_meet(build: BuildView) -> None:
    view = build({"shard-1": 1.2, "shard-2": 0.1})
    apart = frozenset(name for name in view.buckets.names if name.startswith("shard-1"))
    for plan in decide(view, DecisionPolicy(apart=(apart,))).plans:
        assert len(plan.buckets) == 1
    there = frozenset({*apart, "shard-2-b00"})
    decision = decide(view, DecisionPolicy(apart=(there,)))
    assert decision.plans == ()
    assert any("though they are to be apart" in note for note in decision.notes)


def test_pinned_buckets_are_brought_home(build: BuildView) -> None:
    view = build({"shard-1": 0.5, "shard-2": 0.2, "shard-3": 0.0})
    (plan,) = decide(view, DecisionPolicy(pins={"shard-1-b03": "shard-3", "shard-1-b04": "shard-1"})).plans
    assert (plan.purpose, plan.buckets, plan.target) == (Purpose.PIN, ("shard-1-b03",), "shard-3")
    assert "pinned to shard-3" in explain(plan)


def test_a_new_shard_takes_its_share_only_where_balance_is_asked_for(build: BuildView) -> None:
    view = build({"shard-1": 0.72, "shard-2": 0.72, "shard-3": 0.0})
    assert decide(view, DEFAULTS).plans == ()
    plans = decide(view, DecisionPolicy(balance=True)).plans
    assert {plan.target for plan in plans} == {"shard-3"}
    assert {plan.purpose for plan in plans} == {Purpose.BALANCE}


def test_a_migration_under_way_counts_as_done(build: BuildView) -> None:
    view = build({"shard-1": 1.22, "shard-2": 0.0})
    (plan,) = decide(view, NOW).plans
    later = replace(
        view,
        moving=dict.fromkeys(plan.buckets, plan.target),
        busy=dict.fromkeys((plan.source, plan.target), plan.timeline.ends_at),
    )
    decision = decide(later, NOW)
    assert decision.plans == ()
    assert decision.risks[0].score < NOW.migration_threshold


def test_reasons_answer_every_question_with_its_numbers(build: BuildView) -> None:
    view = build({"shard-1": 0.7, "shard-2": 0.7, "shard-3": 1.22, "shard-4": 0.0})
    (plan,) = decide(view, DEFAULTS).plans
    assert [reason.question for reason in plan.reasons] == list(Question)
    text = explain(plan)
    for needed in ("shard-3", "shard-4", *plan.buckets, "1.28", "2013-11-27", "start by", "cost"):
        assert needed in text
    assert all(reason.text in text and reason.numbers for reason in plan.reasons)


def test_a_late_plan_says_so(build: BuildView) -> None:
    view = build({"shard-1": 1.2, "shard-2": 0.0})
    (plan,) = decide(view, DecisionPolicy(margin_s=20_000)).plans
    assert plan.timeline.late
    assert "has passed" in explain(plan)
