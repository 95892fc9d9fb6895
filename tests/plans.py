"""A plan as a decision makes it, for tests of what comes after."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from foreshard.control.engine import ControlDatabase
from foreshard.control.models import Decision, ForecastRun, Plan


def new_plan(control: ControlDatabase, source: str, target: str, buckets: Sequence[str]) -> int:
    """The number of a new plan to move ``buckets``, with the forecast and the decision behind it."""
    now = datetime.now(UTC)
    with control.transaction() as session:
        run = ForecastRun(issued_at=now, horizon_hours=1, live_samples_used=0, series=0, seconds=0)
        session.add(run)
        session.flush()
        decision = Decision(
            forecast_run_id=run.id, decided_at=now, policy={}, document={}, max_utilisation=0.5,
            reactive_threshold=0.8, notes=[],
        )  # fmt: skip
        session.add(decision)
        session.flush()
        plan = Plan(decision_id=decision.id, source=source, target=target, buckets=list(buckets), document={})
        session.add(plan)
        session.flush()
        return plan.id
