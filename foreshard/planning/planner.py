"""Decide: score every shard, and plan one move for each that is at risk and can be helped, or is to be emptied."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import timedelta

from foreshard.planning.assess import Assessment, assess
from foreshard.planning.evacuation import find_evacuation
from foreshard.planning.loads import FleetLoads, fleet_loads
from foreshard.planning.plan import Decision, MigrationPlan, Reason
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.reasons import reasons, reasons_to_drain
from foreshard.planning.relief import NoRelief, Relief, find_relief
from foreshard.planning.risk import ShardRisk, shard_risk
from foreshard.planning.timeline import Timeline, timeline
from foreshard.planning.view import BucketView, FleetView


def decide(view: FleetView, policy: DecisionPolicy) -> Decision:
    """The decision on ``view``; the same view and policy always give the same one.

    The riskiest shard is helped first; those that are being drained come after, and onto them nothing is moved. A shard
    is in at most one plan, as source or target, and in none while a migration keeps it busy. What could not be done is
    a note. Raises ``InvalidInput`` for an inconsistent view.
    """
    view = view.ahead()
    loads = fleet_loads(view, policy)
    risks = {shard.name: shard_risk(shard, policy) for shard in view.shards}
    taken = set(view.busy_shards)
    plans: list[MigrationPlan] = []
    notes: list[str] = []
    for source in sorted(risks, key=lambda name: (-risks[name].score, name)):
        if risks[source].score <= policy.migration_threshold:
            continue
        if source in taken:
            notes.append(
                f"{source}: at risk (score {risks[source].score:.3f}) but busy with another migration"
            )
            continue
        movable = _movable(view, source, policy)
        relief = find_relief(source, movable, _targets(risks, taken | view.draining, policy), loads, policy)
        if isinstance(relief, NoRelief):
            notes.append(relief.why)
            continue
        assessment = assess(view, relief, loads, policy)
        risks[source] = risks[source].less(assessment.cost.total)
        objection = _objection(risks[source], assessment, policy)
        if objection:
            notes.append(f"{source}: moving {', '.join(relief.names)} to {relief.target} {objection}")
            continue
        when = timeline(view.now, risks[source].excess_at, assessment.prediction)
        why = reasons(relief, risks[source], assessment, when, len(movable), policy)
        plans.append(_plan(relief, risks[source].score + risks[source].cost, assessment, when, why))
        taken |= {source, relief.target}
    for source in sorted(view.draining - taken):
        evacuation = _evacuate(view, source, risks, frozenset(taken), loads, policy)
        if isinstance(evacuation, NoRelief):
            notes.append(evacuation.why)
        else:
            plans.append(evacuation)
            taken |= {source, evacuation.target}
    ordered = tuple(risks[name] for name in sorted(risks))
    return Decision(
        decided_at=view.now,
        risks=ordered,
        plans=tuple(sorted(plans, key=lambda plan: (-plan.priority, plan.source))),
        notes=tuple(notes),
        max_utilisation=max(risk.utilisation for risk in ordered),
        reactive_threshold=policy.reactive_threshold,
    )


def _evacuate(
    view: FleetView,
    source: str,
    risks: Mapping[str, ShardRisk],
    taken: frozenset[str],
    loads: FleetLoads,
    policy: DecisionPolicy,
) -> MigrationPlan | NoRelief:
    """The next plan to empty a shard. A person asked for it: neither cool-down nor minimum gain stand against it."""
    here = view.on(source)
    if not here:
        return NoRelief(f"{source}: is drained; `foreshard shard remove {source}` takes it out of the fleet")
    movable = tuple(bucket for bucket in here if bucket.name not in view.moving)
    relief = find_evacuation(source, movable, _targets(risks, taken | view.draining, policy), loads, policy)
    if isinstance(relief, NoRelief):
        return relief
    assessment = assess(view, relief, loads, policy)
    risk = risks[source]
    when = timeline(view.now, risk.excess_at, assessment.prediction)
    why = reasons_to_drain(relief, assessment, when, len(here), policy)
    return _plan(relief, risk.score, assessment, when, why)


def _targets(
    risks: Mapping[str, ShardRisk], taken: AbstractSet[str], policy: DecisionPolicy
) -> frozenset[str]:
    """A shard that is itself at risk is never a target: it may need its own plan."""
    return frozenset(
        name for name, risk in risks.items() if name not in taken and risk.score <= policy.migration_threshold
    )


def _movable(view: FleetView, source: str, policy: DecisionPolicy) -> tuple[BucketView, ...]:
    cooled = view.now - timedelta(seconds=policy.cooldown_s)
    return tuple(
        bucket
        for bucket in view.on(source)
        if bucket.name not in view.moving and (bucket.last_moved_at is None or bucket.last_moved_at <= cooled)
    )


def _objection(risk: ShardRisk, assessment: Assessment, policy: DecisionPolicy) -> str | None:
    """Why the move is not worth it, if so. ``risk`` has the move's cost taken off."""
    if risk.score <= policy.migration_threshold:
        return (
            f"would cost {risk.cost:.4f}, which leaves a score of {risk.score:.4f}, "
            f"not above the threshold of {policy.migration_threshold:.4f}"
        )
    if assessment.gain < policy.minimum_gain:
        return (
            f"would lower the higher peak of the two by {assessment.gain:.3f}, "
            f"less than the minimum gain of {policy.minimum_gain:.3f}"
        )
    return None


def _plan(
    relief: Relief, risk_before: float, assessment: Assessment, when: Timeline, why: tuple[Reason, ...]
) -> MigrationPlan:
    """The plan. ``risk_before``: the source's score, the move's cost not taken off."""
    return MigrationPlan(
        source=relief.source,
        target=relief.target,
        buckets=relief.names,
        timeline=when,
        bytes=relief.bytes,
        cost=assessment.cost,
        priority=max(risk_before, 0.0) * assessment.latency_saved,
        risk_before=risk_before,
        risk_after=assessment.risk_after,
        effects=assessment.effects,
        reasons=why,
        prediction=assessment.prediction,
    )
