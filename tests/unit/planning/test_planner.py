from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from foreshard.planning.explain import explain
from foreshard.planning.plan import MigrationPlan, Question
from foreshard.planning.planner import decide
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.view import FleetView

BuildView = Callable[..., FleetView]

DEFAULTS = DecisionPolicy()
NEARLY = 1e-6

peaks = st.fixed_dictionaries(
    {"shard-1": st.floats(1.0, 1.6), "shard-2": st.floats(0.0, 0.6)},
    optional={
        f"shard-{n}": st.one_of(st.just(0.0), st.floats(0.05, 0.9), st.floats(1.0, 1.6)) for n in (3, 4, 5)
    },
)
activities = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=12)
sizes = st.lists(st.integers(0, 10**9), min_size=1, max_size=10)


@st.composite
def drawn(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments of ``build`` for any fleet."""
    chosen = draw(peaks)
    return {
        "peaks": chosen,
        "parts": {shard: draw(activities) for shard, peak in chosen.items() if peak > 0},
        "sizes": draw(sizes),
        "present": draw(st.floats(0.0, 1.0)),
    }


def activity_part(view: FleetView, shard: str, names: tuple[str, ...]) -> np.ndarray:
    """The named buckets' part of the shard's median activity, per step."""
    here = sum(b.band.at(0.5) for b in view.buckets if b.shard == shard)
    named = sum((b.band.at(0.5) for b in view.buckets if b.name in names), start=np.zeros(12))
    return np.asarray(named / here)


def source_peak(view: FleetView, plan: MigrationPlan, moved: tuple[str, ...]) -> float:
    """The source's peak over resources and steps after ``moved`` left, in units of capacity."""
    shard = next(s for s in view.shards if s.name == plan.source)
    left = 1.0 - activity_part(view, plan.source, moved)
    return max(float((band.at(0.9) * left).max()) / shard.capacity[m] for m, band in shard.bands.items())


def target_peaks(view: FleetView, plan: MigrationPlan) -> dict[str, float]:
    """The target's peak of each resource with the moved buckets and the copy."""
    source = next(s for s in view.shards if s.name == plan.source)
    target = next(s for s in view.shards if s.name == plan.target)
    part = activity_part(view, plan.source, plan.buckets)
    return {
        metric: float((band.at(0.9) + part * source.bands[metric].at(0.9)).max()) / target.capacity[metric]
        + DEFAULTS.copy_load
        for metric, band in target.bands.items()
    }


@given(drawn(), st.randoms(use_true_random=False))
def test_the_same_fleet_in_any_order_gives_the_same_decision(
    build: BuildView, fleet: dict[str, Any], random: Random
) -> None:
    view = build(**fleet)
    shards, buckets = list(view.shards), list(view.buckets)
    random.shuffle(shards)
    random.shuffle(buckets)
    again = replace(view, shards=tuple(shards), buckets=tuple(buckets))
    assert decide(again, DEFAULTS) == decide(view, DEFAULTS)


@given(drawn())
def test_every_risk_is_relieved_or_noted(build: BuildView, fleet: dict[str, Any]) -> None:
    view = build(**fleet)
    decision = decide(view, DEFAULTS)
    planned = {plan.source for plan in decision.plans}
    for risk in decision.risks:
        if risk.score + risk.cost > DEFAULTS.migration_threshold:
            assert risk.shard in planned or any(note.startswith(f"{risk.shard}:") for note in decision.notes)
        else:
            assert risk.shard not in planned
    assert [risk.shard for risk in decision.risks] == sorted(shard.name for shard in view.shards)


@given(drawn())
def test_a_plan_relieves_its_source_and_nothing_in_it_is_needless(
    build: BuildView, fleet: dict[str, Any]
) -> None:
    view = build(**fleet)
    for plan in decide(view, DEFAULTS).plans:
        assert source_peak(view, plan, plan.buckets) <= DEFAULTS.target_ceiling + NEARLY
        for bucket in plan.buckets:
            others = tuple(name for name in plan.buckets if name != bucket)
            assert source_peak(view, plan, others) > DEFAULTS.target_ceiling


@given(drawn())
def test_a_target_stays_under_its_limit_at_every_step(build: BuildView, fleet: dict[str, Any]) -> None:
    view = build(**fleet)
    for plan in decide(view, DEFAULTS).plans:
        limits = {effect.metric: effect.limit for effect in plan.effects if effect.shard == plan.target}
        for metric, peak in target_peaks(view, plan).items():
            assert limits[metric] <= DEFAULTS.target_ceiling
            assert peak <= limits[metric] + NEARLY


@given(drawn())
def test_a_shard_is_in_one_plan_at_most_and_buckets_lie_on_the_source(
    build: BuildView, fleet: dict[str, Any]
) -> None:
    view = build(**fleet)
    plans = decide(view, DEFAULTS).plans
    ends = [end for plan in plans for end in (plan.source, plan.target)]
    assert len(ends) == len(set(ends))
    homes = {bucket.name: bucket.shard for bucket in view.buckets}
    assert all(homes[name] == plan.source for plan in plans for name in plan.buckets)
    assert [plan.priority for plan in plans] == sorted((plan.priority for plan in plans), reverse=True)


@given(drawn(), st.data())
def test_busy_shards_and_resting_buckets_are_left_alone(
    build: BuildView, fleet: dict[str, Any], data: st.DataObject
) -> None:
    view = build(**fleet)
    busy = data.draw(st.sets(st.sampled_from([shard.name for shard in view.shards])))
    names = [bucket.name for bucket in view.buckets]
    assume(names)
    moving = data.draw(st.sets(st.sampled_from(names)))
    rested = data.draw(st.sets(st.sampled_from(names)))
    lately = view.now - timedelta(seconds=DEFAULTS.cooldown_s - 1)
    buckets = tuple(replace(b, last_moved_at=lately) if b.name in rested else b for b in view.buckets)
    decision = decide(
        replace(view, buckets=buckets, busy_shards=frozenset(busy), moving=frozenset(moving)), DEFAULTS
    )
    for plan in decision.plans:
        assert not busy & {plan.source, plan.target}
        assert not (moving | rested) & set(plan.buckets)


@given(drawn())
def test_plans_and_decisions_survive_storage(build: BuildView, fleet: dict[str, Any]) -> None:
    decision = decide(build(**fleet), DEFAULTS)
    assert type(decision).from_json(decision.to_json()) == decision
    for plan in decision.plans:
        assert MigrationPlan.from_json(plan.to_json()) == plan


def test_a_plan_from_a_forecast_of_excess(build: BuildView) -> None:
    """The product in one picture: nothing is hot now, one shard will be, one is empty."""
    view = build({"shard-1": 0.7, "shard-2": 0.7, "shard-3": 1.22, "shard-4": 0.0})
    decision = decide(view, DEFAULTS)
    (plan,) = decision.plans
    assert (plan.source, plan.target) == ("shard-3", "shard-4")
    assert decision.max_utilisation == pytest.approx(0.61)
    assert decision.max_utilisation < decision.reactive_threshold
    assert plan.excess_at is not None
    assert plan.timeline.start_by > view.now
    assert plan.bytes == 7_000_000 * len(plan.buckets)
    assert plan.risk_before == pytest.approx(0.8 * 0.22)
    assert plan.risk_after == 0.0
    assert plan.priority > 0
    source_risk = next(risk for risk in decision.risks if risk.shard == "shard-3")
    assert source_risk.score == pytest.approx(plan.risk_before - plan.cost.total)
    assert not decision.notes


def test_of_two_that_need_the_one_empty_shard_the_riskier_gets_it(build: BuildView) -> None:
    decision = decide(build({"shard-1": 1.2, "shard-2": 1.3, "shard-3": 0.0}), DEFAULTS)
    (plan,) = decision.plans
    assert (plan.source, plan.target) == ("shard-2", "shard-3")
    (note,) = decision.notes
    assert note.startswith("shard-1:")


def test_the_smallest_of_equal_buckets_go_first(build: BuildView) -> None:
    view = build({"shard-1": 1.2, "shard-2": 0.0}, sizes=(10**9, 10**6))
    (plan,) = decide(view, DEFAULTS).plans
    assert plan.bytes == 10**6 * len(plan.buckets)


def test_a_present_load_above_the_knee_needs_no_forecast_of_excess(build: BuildView) -> None:
    hot = build({"shard-1": 0.99, "shard-2": 0.1}, present=1.0)
    (plan,) = decide(hot, DEFAULTS).plans
    assert plan.excess_at is None
    assert plan.timeline.start_by == hot.now


@pytest.mark.parametrize(
    ("peaks", "change", "said"),
    [
        ({"shard-1": 1.2}, {}, "no shard is free"),
        ({"shard-1": 1.3, "shard-2": 0.8}, {}, "no shard can take enough"),
        ({"shard-1": 1.3, "shard-2": 1.3}, {}, "no shard is free"),
        ({"shard-1": 1.2, "shard-2": 0.0}, {"busy_shards": frozenset({"shard-1"})}, "busy"),
        ({"shard-1": 1.2, "shard-2": 0.0}, {"busy_shards": frozenset({"shard-2"})}, "no shard is free"),
        ({"shard-1": 1.2, "shard-2": 0.0}, {"parts": {"shard-1": []}}, "every bucket is moving"),
    ],
)
def test_no_solution_is_a_note(
    build: BuildView, peaks: dict[str, float], change: dict[str, object], said: str
) -> None:
    decision = decide(build(peaks, **change), DEFAULTS)
    assert decision.plans == ()
    assert any(said in note for note in decision.notes)


def test_a_single_hot_bucket_cannot_be_split(build: BuildView) -> None:
    view = build({"shard-1": 1.4, "shard-2": 0.0}, parts={"shard-1": [1.0]})
    decision = decide(view, DEFAULTS)
    assert decision.plans == ()
    assert "shard-2" in decision.notes[0]


def test_a_move_that_costs_more_than_it_saves_is_not_made(build: BuildView) -> None:
    view = build({"shard-1": 1.2, "shard-2": 0.0})
    decision = decide(view, DecisionPolicy(operator_overhead=0.2))
    assert decision.plans == ()
    assert "would cost" in decision.notes[0]
    assert decision.risks[0].score < 0
    decision = decide(view, DecisionPolicy(minimum_gain=0.9))
    assert "minimum gain" in decision.notes[0]


def test_reasons_answer_every_question_with_its_numbers(build: BuildView) -> None:
    view = build({"shard-1": 0.7, "shard-2": 0.7, "shard-3": 1.22, "shard-4": 0.0})
    (plan,) = decide(view, DEFAULTS).plans
    assert [reason.question for reason in plan.reasons] == list(Question)
    text = explain(plan)
    for needed in ("shard-3", "shard-4", *plan.buckets, "1.22", "2013-11-27", "start by", "cost"):
        assert needed in text
    assert all(reason.text in text and reason.numbers for reason in plan.reasons)


def test_a_late_plan_says_so(build: BuildView) -> None:
    view = build({"shard-1": 1.2, "shard-2": 0.0})
    (plan,) = decide(view, DecisionPolicy(margin_s=86_400)).plans
    assert plan.timeline.late
    assert "has passed" in explain(plan)
