"""What a plan's reasons say when it is one of several, or moves one bucket."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from foreshard.planning.plan import Decision, Question
from foreshard.planning.planner import decide
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.view import FleetView

BuildView = Callable[..., FleetView]


def said(decision: Decision, question: Question) -> list[str]:
    """That answer of each plan."""
    return [one.text for plan in decision.plans for one in plan.reasons if one.question is question]


def test_each_of_several_plans_knows_of_the_others(build: BuildView) -> None:
    view = build({"shard-1": 1.2, "shard-2": 0.5, "shard-3": 0.5, "shard-4": 0.5})
    decision = decide(view, DecisionPolicy())
    texts = said(decision, Question.WHY_THESE_BUCKETS)
    assert len(texts) >= 2
    assert decision.shortage is None
    assert "with the other plans of this source it comes under the ceiling" in texts[0]
    assert not any("no room" in text for text in texts)


@pytest.mark.parametrize("planner", ["greedy", "exact"])
def test_one_bucket_is_not_many(build: BuildView, planner: str) -> None:
    view = build({"shard-1": 1.2, "shard-2": 0.0}, parts={"shard-1": [6.0, 1.0, 4.0]})
    decision = decide(view, DecisionPolicy.model_validate({"planner": planner}))
    (plan,) = decision.plans
    assert len(plan.buckets) == 1
    these, there = (said(decision, one)[0] for one in (Question.WHY_THESE_BUCKETS, Question.WHY_THERE))
    assert "any of them" not in these
    assert "room for it" in there
