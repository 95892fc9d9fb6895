"""What becomes of earlier plans when a new decision is stored: the same move is kept, others expire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from sqlalchemy import and_, exists, func, or_, select
from sqlalchemy.orm import Session

from foreshard.control.approval_models import Approval
from foreshard.control.migration_models import Migration
from foreshard.control.models import Decision as DecisionRow
from foreshard.control.models import Plan
from foreshard.errors import InvalidInput, OutOfDate
from foreshard.planning.plan import Decision, MigrationPlan
from foreshard.planning.policy import DecisionPolicy

Move = tuple[str, str, frozenset[str]]


@dataclass(frozen=True)
class Basis:
    """What a decision was made on, beside its forecast: the newest decision, migrations ever opened and ended."""

    decision: int
    opened: int
    ended: int


def basis_of(session: Session) -> Basis:
    """As it is now."""
    newest = session.scalar(select(func.coalesce(func.max(DecisionRow.id), 0)))
    opened, ended = session.execute(
        select(func.count(), func.count(Migration.finished_at)).select_from(Migration)
    ).one()
    return Basis(int(newest or 0), int(opened), int(ended))


def same_as_newest(session: Session, forecast_run_id: int, policy: DecisionPolicy) -> DecisionRow | None:
    """The newest decision, if it was made on that forecast by that policy."""
    newest = session.scalar(select(DecisionRow).order_by(DecisionRow.id.desc()).limit(1))
    if newest is None or newest.forecast_run_id != forecast_run_id:
        return None
    try:
        return newest if DecisionPolicy(**newest.policy) == policy else None
    except InvalidInput:  # of a version with other fields
        return None


def waiting(session: Session) -> Sequence[Plan]:
    """All proposed plans, locked: none of them becomes a migration until this transaction has ended."""
    return session.scalars(
        select(Plan).where(Plan.state == "proposed").order_by(Plan.id).with_for_update()
    ).all()


def check_basis(session: Session, basis: Basis | None) -> None:
    """Raises OutOfDate unless all is as it was. To be called with the proposed plans locked."""
    if basis is not None and basis_of(session) != basis:
        raise OutOfDate("Another decision was made, or a migration began or ended, since this one was begun.")


def without_refused(session: Session, decision: Decision, policy: DecisionPolicy) -> Decision:
    """The decision without what a person refused a short while ago, and without what needed room made by that.

    Refused: a plan rejected, a migration rejected at its approval, one reversed; as long as a bucket rests. The same
    source and target and any of the buckets is the same again.
    """
    refused = _refused(session, timedelta(seconds=policy.cooldown_s))
    why: dict[int, str] = {}
    for at, plan in enumerate(decision.plans):
        for number, (source, target, buckets) in refused.items():
            if (plan.source, plan.target) == (source, target) and buckets & set(plan.buckets):
                why[at] = (
                    f"like plan {number}, which was refused within the last {policy.cooldown_s / 3600:g} h"
                )
    while more := {
        at: f"needs room on {plan.target} that is not made"
        for at, plan in enumerate(decision.plans)
        if at not in why
        and any(one in why and decision.plans[one].source == plan.target for one in plan.after)
    }:
        why |= more
    return without(decision, why)


def without(decision: Decision, why: Mapping[int, str]) -> Decision:
    """The decision without the plans at those positions; each is a note."""
    if not why:
        return decision
    position = {at: new for new, at in enumerate(at for at in range(len(decision.plans)) if at not in why)}
    plans = tuple(
        replace(plan, after=tuple(position[one] for one in plan.after if one in position))
        for at, plan in enumerate(decision.plans)
        if at in position
    )
    notes = tuple(
        f"{plan.source}: {', '.join(plan.buckets)} to {plan.target} is not planned: {why[at]}"
        for at, plan in enumerate(decision.plans)
        if at in why
    )
    return replace(decision, plans=plans, notes=(*decision.notes, *notes))


def _refused(session: Session, within: timedelta) -> dict[int, Move]:
    since = func.now() - within
    said_no = exists().where(Approval.migration_id == Migration.id, Approval.state == "rejected")
    query = (
        select(Plan.id, Plan.source, Plan.target, Plan.buckets)
        .outerjoin(Migration, Migration.plan_id == Plan.id)
        .where(
            or_(
                and_(Plan.state == "rejected", Plan.closed_at > since),
                and_(Plan.state == "reversed", Migration.finished_at > since),
                and_(Plan.state == "aborted", Migration.finished_at > since, said_no),
            )
        )
    )
    rows = session.execute(query).tuples()
    return {number: (source, target, frozenset(buckets)) for number, source, target, buckets in rows}


def put_plans(
    session: Session, row: DecisionRow, plans: Sequence[MigrationPlan], earlier: Sequence[Plan]
) -> list[int]:
    """Store the plans of a new decision; returns their numbers in its order.

    ``earlier``: the proposed ones. One with the same move is the plan, with what is new in it; the rest expires.
    """
    same: dict[Move, Plan] = {(one.source, one.target, frozenset(one.buckets)): one for one in earlier}
    rows = []
    for plan in plans:
        held = same.pop((plan.source, plan.target, frozenset(plan.buckets)), None)
        if held is None:
            held = Plan(source=plan.source, target=plan.target, buckets=list(plan.buckets))
            session.add(held)
        held.decision_id, held.document = row.id, plan.to_json()
        held.excess_at, held.not_before = plan.excess_at, plan.timeline.not_before
        session.flush()  # one by one: ids in the order of priority
        rows.append(held)
    for held, plan in zip(rows, plans, strict=True):
        held.after = [rows[one].id for one in plan.after]
    kept = {held.id for held in rows}
    for one in earlier:
        if one.id not in kept:
            one.state, one.closed_by, one.closed_at = "expired", f"decision {row.id}", func.clock_timestamp()
            one.reason = f"decision {row.id} on forecast {row.forecast_run_id} does not hold it"
    return [held.id for held in rows]
