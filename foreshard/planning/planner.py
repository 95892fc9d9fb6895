"""Decide: score every shard, choose what to move and where, say what it costs and when it runs, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from foreshard.planning.choice import Choice, Choices, choose
from foreshard.planning.draft import Draft
from foreshard.planning.fleet import Fleet
from foreshard.planning.loads import planned_level
from foreshard.planning.plan import Decision, MigrationPlan, Purpose
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.reasons import reasons
from foreshard.planning.risk import ShardRisk
from foreshard.planning.schedule import Scheduled, Unscheduled, schedule
from foreshard.planning.shortage import find_shortage
from foreshard.planning.view import FleetView


def decide(view: FleetView, policy: DecisionPolicy) -> Decision:
    """The decision on ``view``; the same view and policy always give the same one.

    The riskiest shard is helped first; then come drains, pins and balance. No shard that is at risk or drained is ever
    a target. A source may need several plans, one a target, which run one after the other; a migration under way counts
    as done. What could not be done is a note.
    """
    view = view.ahead()
    fleet = Fleet.of(view, policy)
    before = fleet.loads.copy()
    risks = fleet.risks()
    choices = choose(fleet, risks)
    chosen = sorted(choices.chosen, key=lambda one: _order(one, fleet))
    drafts = [_draft(one, risks[one.move.source], _priority(one)) for one in chosen]
    strained = [one.strained for one in chosen if one.strained is not None]
    if strained:  # by the level that these were chosen by, or none would ever have room
        before = before.at(planned_level(max(strained), policy))
    plans = _plans(chosen, schedule(drafts, view, before, policy), risks, fleet, choices)
    for row, cost in choices.costs.items():
        risks[row] = risks[row].less(cost)
    shortage = find_shortage(fleet, choices.lacking)
    unknown = [f"{name}: {why}" for name, why in sorted(view.unknown.items())]
    return Decision(
        decided_at=view.now,
        risks=tuple(risks),
        plans=plans,
        notes=(*unknown, *choices.notes),
        max_utilisation=max(risk.utilisation for risk in risks),
        reactive_threshold=policy.reactive_threshold,
        shortage=shortage,
    )


def _order(choice: Choice, fleet: Fleet) -> tuple[int, float, str, str]:
    purpose = list(Purpose).index(choice.purpose)
    return purpose, -_priority(choice), fleet.name(choice.move.source), fleet.name(choice.move.target)


def _priority(choice: Choice) -> float:
    return max(choice.assessment.risk_before, 0.0) * choice.assessment.latency_saved


def _draft(choice: Choice, risk: ShardRisk, priority: float) -> Draft:
    move = choice.move
    excess_at = risk.excess_at if choice.purpose is Purpose.RELIEF else None
    return Draft(
        move.source,
        move.target,
        move.buckets,
        choice.purpose,
        excess_at,
        choice.assessment.prediction,
        priority,
    )


def _plans(
    chosen: Sequence[Choice],
    times: Sequence[Scheduled | Unscheduled],
    risks: Sequence[ShardRisk],
    fleet: Fleet,
    choices: Choices,
) -> tuple[MigrationPlan, ...]:
    """The choices that have a time, as plans; the others are notes."""
    position: dict[int, int] = {}
    plans: list[MigrationPlan] = []
    for at, (choice, time) in enumerate(zip(chosen, times, strict=True)):
        move, assessment = choice.move, choice.assessment
        source, target, names = fleet.name(move.source), fleet.name(move.target), fleet.names(move.buckets)
        if isinstance(time, Unscheduled):
            choices.notes.append(f"{source}: {', '.join(names)} to {target} has no time: {time.why}")
            continue
        position[at] = len(plans)
        plans.append(
            MigrationPlan(
                source=source,
                target=target,
                buckets=names,
                timeline=time.timeline,
                bytes=fleet.bytes(move.buckets),
                cost=assessment.cost,
                priority=_priority(choice),
                risk_before=assessment.risk_before,
                risk_after=assessment.risk_after,
                effects=assessment.effects,
                reasons=reasons(choice, risks[move.source], time.timeline, fleet),
                prediction=assessment.prediction,
                purpose=choice.purpose,
                after=time.after,
                strained=choice.strained,
            )
        )
    return tuple(
        replace(plan, after=tuple(position[one] for one in plan.after if one in position)) for plan in plans
    )
