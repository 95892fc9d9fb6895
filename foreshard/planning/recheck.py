"""Whether a newer forecast still asks for a migration that waits for a person's word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from foreshard.planning.fleet import Fleet
from foreshard.planning.plan import MigrationPlan, Purpose
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.view import FleetView


@dataclass(frozen=True)
class Recheck:
    """``risk``: the source's score if the migration were given up; ``supported``: whether it would be planned for."""

    risk: float
    supported: bool


def recheck(
    view: FleetView, plans: Mapping[int, MigrationPlan], policy: DecisionPolicy
) -> dict[int, Recheck]:
    """Each of ``plans`` (by number) as if none of them had been begun; a plan whose source is unknown is left out."""
    going = {bucket for plan in plans.values() for bucket in plan.buckets}
    staying = {bucket: shard for bucket, shard in view.moving.items() if bucket not in going}
    fleet = Fleet.of(replace(view.ahead(), moving=staying), policy)
    row = {name: at for at, name in enumerate(view.shards.names)}
    found = {}
    for number, plan in plans.items():
        if plan.source in row:
            risk = fleet.risk(row[plan.source]).score
            found[number] = Recheck(risk, _wanted(plan, risk, view, policy))
    return found


def _wanted(plan: MigrationPlan, risk: float, view: FleetView, policy: DecisionPolicy) -> bool:
    if plan.purpose is Purpose.RELIEF:
        return risk > policy.migration_threshold
    if plan.purpose is Purpose.DRAIN:
        return plan.source in view.draining
    if plan.purpose is Purpose.PIN:
        return any(policy.pins.get(bucket) == plan.target for bucket in plan.buckets)
    return policy.balance
