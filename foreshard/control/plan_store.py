"""Decisions and plans in the control database, and whose turn it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from math import isfinite
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from foreshard.control import plan_saving
from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_models import Migration
from foreshard.control.models import Decision as DecisionRow
from foreshard.control.models import Plan
from foreshard.control.plan_saving import Basis
from foreshard.control.policy_store import document
from foreshard.errors import ForeshardError, InvalidInput, NotFound, PlanTaken
from foreshard.migration.lifecycle import ENDS
from foreshard.planning.plan import Decision, MigrationPlan
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.prediction import Prediction

_REMEDY = {
    "migrating": "`foreshard status` shows its migration.",
    "done": "Its buckets are where it was to bring them.",
}


@dataclass(frozen=True)
class PlanRecord:
    """A stored plan. States: proposed, migrating, done, rejected, aborted, reversed, expired.

    ``after``: plans that must have ended first. ``attempts``: runs started for it; the last is ``flow_run_id``, since
    ``claimed_at``. ``reason``, ``closed_by``, ``closed_at``: who rejected it and why, or which decision it expired by.
    ``recheck``: of one that waits for approval what the newest decision says: decision_id, risk, supported.
    """

    id: int
    decision_id: int
    state: str
    plan: MigrationPlan
    created_at: datetime
    after: tuple[int, ...] = ()
    attempts: int = 0
    claimed_at: datetime | None = None
    flow_run_id: str | None = None
    recheck: Mapping[str, Any] | None = None
    reason: str | None = None
    closed_by: str | None = None
    closed_at: datetime | None = None


@dataclass(frozen=True)
class DecisionRecord:
    """A stored decision with the policy it was made by, and the ids of its plans in its order.

    ``new``: whether it was stored just now; a decision that is made twice is the first.
    """

    id: int
    forecast_run_id: int
    decision: Decision
    policy: Mapping[str, Any]
    plan_ids: tuple[int, ...]
    new: bool = field(default=False, compare=False)


class PlanStore:
    """Reads and writes decisions and plans."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control

    def basis(self) -> Basis:
        """What a decision that is begun now is made on; for `save`."""
        with self._control.transaction() as session:
            return plan_saving.basis_of(session)

    def made(self, forecast_run_id: int, policy: DecisionPolicy) -> DecisionRecord | None:
        """The newest decision, if it was made on that forecast by that policy; else None."""
        with self._control.transaction() as session:
            row = plan_saving.same_as_newest(session, forecast_run_id, policy)
            return None if row is None else _decision(row)

    def save(
        self, decision: Decision, forecast_run_id: int, policy: DecisionPolicy, basis: Basis | None = None
    ) -> DecisionRecord:
        """Store a decision with its plans. What the newest decision made on this forecast by this policy is that one.

        Else plans of earlier decisions that are still proposed expire, unless the new one holds the same move: then
        the earlier plan is kept, with the new timeline and reasons, under its number. Plans that are migrations, and
        what waits for approval, stay. What a person refused within the policy's cool-down is not planned again.

        Raises:
            OutOfDate: ``basis`` is given, and another decision was made, or a migration began or ended, since then.
        """
        with self._control.transaction() as session:
            session.connection().exec_driver_sql("LOCK TABLE decisions IN SHARE ROW EXCLUSIVE MODE")
            present = plan_saving.same_as_newest(session, forecast_run_id, policy)
            if present is not None:
                return _decision(present)
            earlier = plan_saving.waiting(session)
            plan_saving.check_basis(session, basis)
            decision = plan_saving.without_refused(session, decision, policy)
            row = DecisionRow(
                forecast_run_id=forecast_run_id, decided_at=decision.decided_at, policy=document(policy),
                document=decision.to_json(), max_utilisation=decision.max_utilisation,
                reactive_threshold=decision.reactive_threshold, notes=list(decision.notes), plan_ids=[],
            )  # fmt: skip
            session.add(row)
            session.flush()
            row.plan_ids = plan_saving.put_plans(session, row, decision.plans, earlier)
            return _decision(row, new=True)

    def decision(self, decision_id: int) -> DecisionRecord:
        """One decision.

        Raises:
            NotFound: no such decision.
        """
        with self._control.transaction() as session:
            row = session.get(DecisionRow, decision_id)
            if row is None:
                raise NotFound(f"There is no decision {decision_id}.", remedy="Run the decide flow.")
            return _decision(row)

    def newest_decision(self) -> DecisionRecord | None:
        """The newest decision, or None."""
        with self._control.transaction() as session:
            row = session.scalar(select(DecisionRow).order_by(DecisionRow.id.desc()).limit(1))
            return None if row is None else _decision(row)

    def newest_decisions(self, limit: int) -> list[DecisionRecord]:
        """The newest ones, newest first."""
        with self._control.transaction() as session:
            rows = session.scalars(select(DecisionRow).order_by(DecisionRow.id.desc()).limit(limit))
            return [_decision(row) for row in rows]

    def newest_policy(self) -> DecisionPolicy | None:
        """The policy that the newest decision was made by; None before the first.

        Raises:
            InvalidInput: it is of a version with other fields.
        """
        query = select(DecisionRow.policy).order_by(DecisionRow.id.desc()).limit(1)
        with self._control.transaction() as session:
            stored = session.scalar(query)
        return None if stored is None else DecisionPolicy(**stored)

    def decision_after(self, forecast_run_id: int) -> DecisionRecord | None:
        """The first decision on a forecast newer than the given one, or None."""
        with self._control.transaction() as session:
            row = session.scalar(
                select(DecisionRow)
                .where(DecisionRow.forecast_run_id > forecast_run_id)
                .order_by(DecisionRow.id)
                .limit(1)
            )
            return None if row is None else _decision(row)

    def get(self, plan_id: int) -> PlanRecord:
        """One plan.

        Raises:
            NotFound: no such plan.
        """
        with self._control.transaction() as session:
            return _plan(_existing(session, plan_id))

    def prediction(self, plan_id: int) -> Prediction | None:
        """What a plan is expected to take; None where it was stored without a prediction that this version reads."""
        with self._control.transaction() as session:
            stored = session.scalar(select(Plan.document["prediction"]).where(Plan.id == plan_id))
        return None if stored is None else Prediction.read(stored)

    def risk(self, plan_id: int) -> float | None:
        """The source's score that a plan was made for, in units of capacity; None where its document has none."""
        with self._control.transaction() as session:
            stored = session.scalar(select(Plan.document["risk_before"]).where(Plan.id == plan_id))
        return float(stored) if isinstance(stored, int | float) and isfinite(stored) else None

    def all(self) -> Sequence[PlanRecord]:
        """All plans, newest first."""
        with self._control.transaction() as session:
            return [_plan(row) for row in session.scalars(select(Plan).order_by(Plan.id.desc()))]

    def open(self) -> list[PlanRecord]:
        """Plans that wait or are being carried out, oldest first; those of another version are left out."""
        query = select(Plan).where(Plan.state.in_(("proposed", "migrating"))).order_by(Plan.id)
        found = []
        with self._control.transaction() as session:
            for row in session.scalars(query):
                with suppress(InvalidInput):
                    found.append(_plan(row))
        return found

    def newest(self) -> PlanRecord | None:
        """The newest plan, or None."""
        with self._control.transaction() as session:
            row = session.scalar(select(Plan).order_by(Plan.id.desc()).limit(1))
            return None if row is None else _plan(row)

    # -- whose turn it is -------------------------------------------------------------------------------

    def due(self, now: datetime, max_migrations: int) -> list[PlanRecord]:
        """Proposed plans that no run was started for and whose turn it is, by planned start, then by priority.

        Their planned start is over (fleet clock), the plans before them have ended, neither shard is in a migration,
        and all of them together with what runs are ``max_migrations`` at most. A plan that was to make room here and
        was not done makes this one wait for the next decision.
        """
        with self._control.transaction() as session:
            running = session.execute(
                select(Migration.source, Migration.target).where(Migration.stage.not_in(ENDS))
            ).tuples()
            shards = [set(one) for one in running]
            proposed = session.scalars(select(Plan).where(Plan.state == "proposed")).all()
            shards += [{one.source, one.target} for one in proposed if one.attempts]
            due = [one for one in proposed if not one.attempts and one.not_before and one.not_before <= now]
            before = {number for one in due for number in one.after}
            ended = {one.id: one for one in session.scalars(select(Plan).where(Plan.id.in_(before)))}
            rank = {number: at for at, number in enumerate(_order(session))}
            found = []
            for one in sorted(due, key=lambda one: (one.not_before, rank.get(one.id, len(rank)), one.id)):
                ours = {one.source, one.target}
                if len(shards) >= max_migrations:
                    break
                if all(_ended(ended[number], one) for number in one.after) and not any(
                    ours & at for at in shards
                ):
                    found.append(_plan(one))
                    shards.append(ours)
            return found

    def claimed(self) -> list[PlanRecord]:
        """Plans that a run was started for and that are no migration yet, oldest first."""
        query = select(Plan).where(Plan.state == "proposed", Plan.attempts > 0).order_by(Plan.id)
        with self._control.transaction() as session:
            return [_plan(row) for row in session.scalars(query)]

    def claim_start(self, plan_id: int, *, seen: int | None = None) -> int:
        """Take the next attempt to start a plan, for one run whose idempotency key is `run_key`; its number from 1.

        ``seen``: the attempts that the caller looked at, so that of two that want to start it one does.

        Raises:
            NotFound: no such plan.
            ForeshardError: it is not proposed any more.
            PlanTaken: there were more attempts than ``seen``.
        """
        with self._control.transaction() as session:
            row = _existing(session, plan_id, lock=True)
            _refuse_unless_proposed(row)
            if seen is not None and row.attempts != seen:
                raise PlanTaken(f"Plan {plan_id} was started by another run a moment ago.")
            row.attempts += 1
            row.claimed_at, row.flow_run_id = func.clock_timestamp(), None
            session.flush()
            return row.attempts

    def started(self, plan_id: int, attempt: int, flow_run_id: str) -> None:
        """Note the run of an attempt, unless there has been another attempt since."""
        with self._control.transaction() as session:
            session.execute(
                update(Plan)
                .where(Plan.id == plan_id, Plan.attempts == attempt, Plan.closed_at.is_(None))
                .values(flow_run_id=flow_run_id)
            )

    def reject(self, plan_id: int, by: str, comment: str = "") -> PlanRecord:
        """A person does not want it. Like moves are not planned again as long as the policy's cool-down lasts.

        Raises:
            NotFound: no such plan.
            InvalidInput: ``by`` names nobody.
            ForeshardError: it is not proposed any more.
        """
        if not by.strip():
            raise InvalidInput("by", "names nobody", remedy="Give your name; it is kept with the plan.")
        with self._control.transaction() as session:
            row = _existing(session, plan_id, lock=True)
            _refuse_unless_proposed(row)
            row.state, row.closed_by, row.closed_at = "rejected", by.strip(), func.clock_timestamp()
            row.reason = comment.strip()
            session.flush()
            session.refresh(row)
            return _plan(row)

    def recheck(self, plan_id: int, decision_id: int, risk: float, *, supported: bool) -> None:
        """Note what a new decision says of a plan whose migration waits for approval."""
        found = {"decision_id": decision_id, "risk": risk, "supported": supported}
        with self._control.transaction() as session:
            session.execute(
                update(Plan).where(Plan.id == plan_id, Plan.state == "migrating").values(recheck=found)
            )


def run_key(plan_id: int, attempt: int) -> str:
    """The idempotency key of an attempt's flow run."""
    return f"plan-{plan_id}-{attempt}"


def _existing(session: Session, plan_id: int, *, lock: bool = False) -> Plan:
    row = session.get(Plan, plan_id, with_for_update=lock or None)
    if row is None:
        raise NotFound(f"There is no plan {plan_id}.", remedy="`foreshard plan list` lists the plans.")
    return row


def _refuse_unless_proposed(row: Plan) -> None:
    if row.state == "proposed":
        return
    by = f" by {row.closed_by}" if row.closed_by else ""
    why = f": {row.reason}" if row.reason else ""
    raise ForeshardError(
        f"Plan {row.id} is {row.state}{by}{why}.",
        remedy=_REMEDY.get(row.state, "`foreshard plan list` lists those that are proposed."),
        plan=row.id, state=row.state,
    )  # fmt: skip


def _order(session: Session) -> Sequence[int]:
    newest = select(DecisionRow.plan_ids).order_by(DecisionRow.id.desc()).limit(1)
    return session.scalar(newest) or []


def _ended(before: Plan, plan: Plan) -> bool:
    if before.state == "done":
        return True
    makes_room = before.source == plan.target
    return before.state not in ("proposed", "migrating") and not makes_room


def _plan(row: Plan) -> PlanRecord:
    return PlanRecord(
        row.id, row.decision_id, row.state, MigrationPlan.from_json(row.document), row.created_at, tuple(row.after),
        row.attempts, row.claimed_at, row.flow_run_id, row.recheck, row.reason, row.closed_by, row.closed_at,
    )  # fmt: skip


def _decision(row: DecisionRow, *, new: bool = False) -> DecisionRecord:
    return DecisionRecord(
        row.id,
        row.forecast_run_id,
        Decision.from_json(row.document),
        dict(row.policy),
        tuple(row.plan_ids),
        new,
    )
