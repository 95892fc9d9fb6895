"""Plans and decisions in words: what a newcomer needs to know is there, and first."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest

from foreshard.planning.explain import explain, summary
from foreshard.planning.explain_decision import SHOWN, decision_summary, explain_decision
from foreshard.planning.plan import Effect, Purpose, Shortage
from tests.made_plans import EXCESS, NOW, RATE, REASONS, drained, made_decision, made_plan, made_risk


def test_two_sentences_first() -> None:
    said = (
        "shard-3 is forecast to pass its capacity at Wed 27 Nov 18:00 UTC (probability 62 %). Moving 5 buckets "
        "(39.0 MB) to shard-4, starting Wed 27 Nov 15:10, takes 4 min and leaves both under 85 % of capacity."
    )
    text = explain(made_plan())
    assert text.startswith(f"# Move 5 buckets from shard-3 to shard-4\n\n{said}\n")


def test_all_reasons_effects_costs_and_words() -> None:
    text = explain(made_plan(buckets=20))
    assert all(reason.text in text for reason in REASONS)
    assert "| shard-4 | queries/s | 40 % | 77 % | 85 % | 0 % | <1 % |" in text
    assert all(f"| {part} | " in text for part in ("copy", "wal", "network", "pause", "operator"))
    assert "b0011 and 8 more (39.0 MB)" in text
    assert "relief: the source is at risk" in text
    assert all(f"*{word}*" in text for word in ("capacity", "quantile", "P(exceed)", "peak", "Excess"))
    assert "| planned start | Wed 27 Nov 15:10 UTC: load is least then |" in text


def test_what_is_not_known_is_not_said() -> None:
    plan = made_plan(
        effects=(Effect("shard-3", RATE, 1.2, 0.8, 0.85), Effect("shard-4", RATE, 0.3, 0.6, 0.85))
    )
    text = explain(plan)
    assert "P(exceed)" not in text
    assert "shard-3 is forecast to pass its capacity at Wed 27 Nov 18:00 UTC." in text
    assert "predicted duration | 14 min |" in explain(replace(plan, prediction=None))
    assert re.search(r"predicted duration \| [\d. a-z]+, with margin 14 min \|", text)


def test_a_plan_that_waits_or_comes_late() -> None:
    plan = made_plan(start=EXCESS, after=(0, 2))
    assert "| waits for the end of | the decision's plan 1, the decision's plan 3 |" in explain(plan)
    assert "| waits for the end of | plan 7, plan 9 |" in explain(plan, ["plan 7", "plan 9"])
    assert "has passed" in explain(plan)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (drained(made_plan()), "shard-3 is being drained."),
        (drained(made_plan()) | {"purpose": Purpose.RELIEF}, "is close to its capacity at present"),
        ({"purpose": Purpose.PIN}, "The policy pins these buckets to shard-4"),
        ({"purpose": Purpose.BALANCE}, "more than its share"),
        (
            {"effects": (Effect("shard-4", RATE, 1.1, 1.3, 0.85),)},
            "shard-4 is still predicted to reach 130 %",
        ),
        ({"buckets": ("one",)}, "Moving 1 bucket (39.0 MB)"),
    ],
)
def test_the_summary_of(more: dict[str, object], said: str) -> None:
    assert said in summary(made_plan(**more))


def test_a_decision() -> None:
    later = made_plan("shard-3", "shard-2", 2, start=NOW + timedelta(minutes=20), after=(0,))
    shortage = Shortage(
        2, {RATE: 100.0}, EXCESS, "2 more shards like shard-1 are needed by Wed 27 Nov 18:00 UTC."
    )
    text = explain_decision(
        made_decision(made_plan(), later, shortage=shortage), ["plan 7", "plan 8"], ["shard-9"]
    )
    assert "2 plans to move 78.0 MB; 1 of 4 shards may pass their capacity, shard-3 first" in text
    assert (
        "| **shard-3** | **queries/s** | 50 % | 121 % | Wed 27 Nov 18:00 UTC | 62 % | 0.050 | **0.6200** |"
        in text
    )
    assert text.index("**shard-3**") < text.index("**shard-1**"), "the riskiest first"
    assert "left out:** shard-9." in text
    assert (
        "| plan 8 | relief | shard-3 | shard-2 | 2 buckets, 39.0 MB | Wed 27 Nov 15:30 UTC | 14 min | plan 7 |"
        in text
    )
    assert "**Plan 7.** shard-3 is forecast" in text
    assert "## What is missing\n\n2 more shards" in text
    assert "- shard-1: would move" in text


def test_a_decision_on_a_large_calm_fleet() -> None:
    risks = tuple(made_risk(f"shard-{number}", 0.5) for number in range(SHOWN + 20))
    decision = made_decision(risks=risks, notes=())
    assert decision_summary(decision).startswith(
        "Nothing is to be moved; no shard is forecast to pass its capacity."
    )
    text = explain_decision(decision)
    assert "and 20 shards with lower scores" in text
    assert len(text) < 15_000
    assert "## Plans" not in text
    assert "## What was not done" not in text


def test_times_by_the_fleets_clock() -> None:
    text = explain(made_plan(), zone=ZoneInfo("America/New_York"))
    assert "is forecast to pass its capacity at Wed 27 Nov 13:00 EST (probability 62 %)" in text
    assert "starting Wed 27 Nov 10:10, takes" in text
    assert "| planned start | Wed 27 Nov 10:10 EST: load is least then |" in text
    assert "UTC" not in text
