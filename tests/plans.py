"""A plan as a decision makes it, for tests of what comes after."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import text

from foreshard.control.engine import ControlDatabase
from foreshard.control.models import Decision, Plan

NEW_RUN = """
INSERT INTO forecast_runs (issued_at, horizon_hours, live_samples_used, series, seconds)
VALUES (:now, 1, 0, 0, 0) RETURNING id
"""


def new_decision(control: ControlDatabase, run_id: int) -> int:
    """The number of a new decision on that forecast."""
    with control.transaction() as session:
        decision = Decision(
            forecast_run_id=run_id, decided_at=datetime.now(UTC), policy={}, document={}, max_utilisation=0.5,
            reactive_threshold=0.8, notes=[],
        )  # fmt: skip
        session.add(decision)
        session.flush()
        return decision.id


def new_plan(control: ControlDatabase, source: str, target: str, buckets: Sequence[str]) -> int:
    """The number of a new plan to move ``buckets``, with the forecast and the decision behind it."""
    with control.transaction() as session:
        # Not by the model: some databases are of an earlier revision.
        run_id = session.scalar(text(NEW_RUN), {"now": datetime.now(UTC)})
    decision = new_decision(control, run_id)
    with control.transaction() as session:
        plan = Plan(decision_id=decision, source=source, target=target, buckets=list(buckets), document={})
        session.add(plan)
        session.flush()
        return plan.id
