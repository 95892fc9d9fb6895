"""A whole decision as markdown: the risk of every shard, the plans in order, what was not done and what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, tzinfo

from foreshard.markdown import plain
from foreshard.moments import at, clock
from foreshard.planning.explain import buckets_in_words, listed, percent, summary
from foreshard.planning.plan import Decision
from foreshard.planning.risk import ResourceRisk, ShardRisk
from foreshard.quantities import chance, duration, resource, size

SHOWN = 50
"""Shards in the table; of a larger fleet the riskiest."""


def explain_decision(
    decision: Decision, names: Sequence[str] = (), without_forecast: Sequence[str] = ()
) -> str:
    """The decision in words and numbers.

    ``names``: what its plans are called, in its order; by default ``plan 1``, ``plan 2``. ``without_forecast``: shards
    that took no part.
    """
    called = names or [f"plan {number}" for number in range(1, len(decision.plans) + 1)]
    lines = [
        f"# Decision of {decision.decided_at:%Y-%m-%d %H:%M} UTC",
        "",
        decision_summary(decision),
        "",
        *risk_table(decision, without_forecast),
    ]
    if decision.plans:
        lines += ["", *_plans(decision, called)]
    if decision.shortage is not None:
        lines += ["", "## What is missing", "", decision.shortage.text]
    if decision.notes:
        lines += ["", "## What was not done", "", *(f"- {note}" for note in decision.notes)]
    return "\n".join(lines) + "\n"


def decision_summary(decision: Decision, zone: tzinfo = UTC) -> str:
    """Two sentences: what is planned, and how busy the fleet is. Moments are told by the clock of ``zone``."""
    plans = len(decision.plans)
    moved = sum(plan.bytes for plan in decision.plans)
    done = (
        f"{plans} plan{'' if plans == 1 else 's'} to move {size(moved)}"
        if plans
        else "Nothing is to be moved"
    )
    over = [one for one in decision.risks if one.excess_at is not None]
    first = min(over, key=lambda one: (one.excess_at, one.shard), default=None)
    trouble = (
        "no shard is forecast to pass its capacity"
        if first is None or first.excess_at is None
        else f"{len(over)} of {len(decision.risks)} shards may pass their capacity, {plain(first.shard)} first, at "
        f"{at(first.excess_at, zone)}"
    )
    return (
        f"{done}; {trouble}. The busiest resource is at {percent(decision.max_utilisation)} of its capacity now; "
        f"without forecasts one would act at {percent(decision.reactive_threshold)}."
    )


def risk_table(decision: Decision, without_forecast: Sequence[str] = ()) -> list[str]:
    """Lines of markdown: every resource of every shard, the riskiest shard first, its worst resource marked."""
    ordered = sorted(decision.risks, key=lambda one: (-one.score, one.shard))
    lines = [
        "## Risk",
        "",
        "| shard | resource | now | peak | above from | P(exceed) | expected excess | score |",
        "|---|---|---:|---:|---|---:|---:|---:|",
    ]
    for risk in ordered[:SHOWN]:
        lines += [_row(risk, one) for one in sorted(risk.resources, key=lambda one: one.metric != risk.worst)]
    if len(ordered) > SHOWN:
        lines += ["", f"... and {len(ordered) - SHOWN:,} shards with lower scores."]
    if without_forecast:
        lines += ["", f"**Without a forecast, and left out:** {listed(without_forecast)}."]
    return [
        *lines,
        "",
        "*Now* and *peak* are shares of *capacity*, which is what a shard can bear of one resource. The peak is the "
        "largest load of the forecast's time that is planned for (a *quantile*: load stays below it with a chosen "
        "probability); *above from* is when that passes the capacity. *P(exceed)* is the probability that load passes "
        "it at any moment, *expected excess* by how much it does in the mean. The *score* weighs these and the present "
        "load; above the policy's `migration_threshold` relief is sought. A shard's worst resource is **bold** and "
        "decides.",
    ]


def _row(risk: ShardRisk, one: ResourceRisk) -> str:
    mark = "**" if one.metric == risk.worst else ""
    above = "never" if one.excess_at is None else f"{clock(one.excess_at)} UTC"
    excess = "-" if one.expected_excess is None else f"{one.expected_excess:.3f}"
    return (
        f"| {mark}{plain(risk.shard)}{mark} | {mark}{resource(one.metric)}{mark} | {percent(one.utilisation)} | "
        f"{percent(one.predicted_utilisation)} | {above} | {chance(one.exceeds)} | {excess} | "
        f"{mark}{one.score:.4f}{mark} |"
    )


def _plans(decision: Decision, names: Sequence[str]) -> list[str]:
    lines = [
        "## Plans, in order",
        "",
        "| plan | purpose | from | to | moves | start | takes | waits for |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, plan in zip(names, decision.plans, strict=True):
        waits = ", ".join(names[position] for position in plan.after) or "-"
        lines.append(
            f"| {name} | {plan.purpose.value} | {plain(plan.source)} | {plain(plan.target)} | "
            f"{buckets_in_words(plan)}, {size(plan.bytes)} | {clock(plan.timeline.not_before)} UTC | "
            f"{duration(plan.timeline.predicted_s)} | "
            f"{waits} |"
        )
    for name, plan in zip(names, decision.plans, strict=True):
        lines += ["", f"**{name[:1].upper()}{name[1:]}.** {summary(plan)}"]
    return lines
