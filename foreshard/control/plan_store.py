"""Decisions and plans in the control database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select

from foreshard.control.engine import ControlDatabase
from foreshard.control.models import Decision as DecisionRow
from foreshard.control.models import Plan
from foreshard.errors import NotFound
from foreshard.planning.plan import Decision, MigrationPlan
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.prediction import Prediction


@dataclass(frozen=True)
class PlanRecord:
    """A stored plan. States: proposed, migrating, done, rejected, aborted, reversed."""

    id: int
    decision_id: int
    state: str
    plan: MigrationPlan
    created_at: datetime


@dataclass(frozen=True)
class DecisionRecord:
    """A stored decision with the policy it was made by, and the ids of its plans in its order."""

    id: int
    forecast_run_id: int
    decision: Decision
    policy: Mapping[str, Any]
    plan_ids: tuple[int, ...]


class PlanStore:
    """Reads and writes decisions and plans."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control

    def save(self, decision: Decision, forecast_run_id: int, policy: DecisionPolicy) -> DecisionRecord:
        """Store a decision with its plans. A second decision on one forecast is the first: nothing is planned twice."""
        with self._control.transaction() as session:
            session.connection().exec_driver_sql("LOCK TABLE decisions IN SHARE ROW EXCLUSIVE MODE")
            present = session.scalar(
                select(DecisionRow).where(DecisionRow.forecast_run_id == forecast_run_id).limit(1)
            )
            if present is None:
                present = DecisionRow(
                    forecast_run_id=forecast_run_id, decided_at=decision.decided_at,
                    policy=policy.model_dump(mode="json"), document=decision.to_json(),
                    max_utilisation=decision.max_utilisation, reactive_threshold=decision.reactive_threshold,
                    notes=list(decision.notes),
                )  # fmt: skip
                session.add(present)
                session.flush()
                for plan in decision.plans:  # one by one: ids in the order of priority
                    session.add(
                        Plan(
                            decision_id=present.id, source=plan.source, target=plan.target,
                            buckets=list(plan.buckets), excess_at=plan.excess_at, document=plan.to_json(),
                        )
                    )  # fmt: skip
                    session.flush()
            plans = session.scalars(select(Plan.id).where(Plan.decision_id == present.id).order_by(Plan.id))
            return _decision(present, tuple(plans))

    def decision(self, decision_id: int) -> DecisionRecord:
        """One decision.

        Raises:
            NotFound: no such decision.
        """
        with self._control.transaction() as session:
            row = session.get(DecisionRow, decision_id)
            if row is None:
                raise NotFound(f"There is no decision {decision_id}.", remedy="Run the decide flow.")
            plans = session.scalars(select(Plan.id).where(Plan.decision_id == row.id).order_by(Plan.id))
            return _decision(row, tuple(plans))

    def decision_after(self, forecast_run_id: int) -> DecisionRecord | None:
        """The first decision on a forecast newer than the given one, or None."""
        with self._control.transaction() as session:
            found = session.scalar(
                select(DecisionRow.id)
                .where(DecisionRow.forecast_run_id > forecast_run_id)
                .order_by(DecisionRow.id)
                .limit(1)
            )
        return None if found is None else self.decision(found)

    def get(self, plan_id: int) -> PlanRecord:
        """One plan.

        Raises:
            NotFound: no such plan.
        """
        with self._control.transaction() as session:
            row = session.get(Plan, plan_id)
            if row is None:
                raise NotFound(
                    f"There is no plan {plan_id}.", remedy="`foreshard plan list` lists the plans."
                )
            return _plan(row)

    def prediction(self, plan_id: int) -> Prediction | None:
        """What a plan is expected to take; None where it was stored without a prediction that this version reads."""
        with self._control.transaction() as session:
            stored = session.scalar(select(Plan.document["prediction"]).where(Plan.id == plan_id))
        return None if stored is None else Prediction.read(stored)

    def all(self) -> Sequence[PlanRecord]:
        """All plans, newest first."""
        with self._control.transaction() as session:
            return [_plan(row) for row in session.scalars(select(Plan).order_by(Plan.id.desc()))]

    def newest(self) -> PlanRecord | None:
        """The newest plan, or None."""
        return next(iter(self.all()), None)


def _plan(row: Plan) -> PlanRecord:
    return PlanRecord(
        row.id, row.decision_id, row.state, MigrationPlan.from_json(row.document), row.created_at
    )


def _decision(row: DecisionRow, plan_ids: tuple[int, ...]) -> DecisionRecord:
    return DecisionRecord(
        row.id, row.forecast_run_id, Decision.from_json(row.document), dict(row.policy), plan_ids
    )
