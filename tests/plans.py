"""Plans and decisions for tests of what comes after. Stored by SQL: some databases are of an earlier revision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime

from sqlalchemy import text

from foreshard.control.engine import ControlDatabase
from foreshard.planning.cost import MigrationCost
from foreshard.planning.plan import Decision, MigrationPlan, Purpose
from foreshard.planning.timeline import Timeline

NEW_RUN = """
INSERT INTO forecast_runs (issued_at, horizon_hours, live_samples_used, series, seconds)
VALUES (:now, 1, 0, 0, 0) RETURNING id
"""
NEW_DECISION = """
INSERT INTO decisions (forecast_run_id, decided_at, policy, document, max_utilisation, reactive_threshold, notes)
VALUES (:run, :now, '{}', '{}', 0.5, 0.8, '{}') RETURNING id
"""
NEW_PLAN = """
INSERT INTO plans (decision_id, state, source, target, buckets, document)
VALUES (:decision, 'proposed', :source, :target, :buckets, '{}') RETURNING id
"""


def new_decision(control: ControlDatabase, run_id: int) -> int:
    """The number of a new decision on that forecast."""
    with control.transaction() as session:
        given = {"run": run_id, "now": datetime.now(UTC)}
        return int(session.execute(text(NEW_DECISION), given).scalar_one())


def new_plan(control: ControlDatabase, source: str, target: str, buckets: Sequence[str]) -> int:
    """The number of a new plan to move ``buckets``, with the forecast and the decision behind it.

    It has no planned start: only who names it starts it.
    """
    with control.transaction() as session:
        run_id = session.execute(text(NEW_RUN), {"now": datetime.now(UTC)}).scalar_one()
    decision = new_decision(control, int(run_id))
    with control.transaction() as session:
        given = {"decision": decision, "source": source, "target": target, "buckets": list(buckets)}
        return int(session.execute(text(NEW_PLAN), given).scalar_one())


def move(
    source: str,
    target: str,
    *buckets: str,
    not_before: datetime,
    after: tuple[int, ...] = (),
    purpose: Purpose = Purpose.RELIEF,
) -> MigrationPlan:
    """A plan as it stands in a decision, that costs nothing and has no reasons."""
    return MigrationPlan(
        source=source, target=target, buckets=buckets,
        timeline=Timeline(not_before, not_before, None, 600.0, 50.0),
        bytes=1_000_000, cost=MigrationCost(**dict.fromkeys([one.name for one in fields(MigrationCost)], 0.0)),
        priority=1.0, risk_before=0.5, risk_after=0.0, effects=(), reasons=(), purpose=purpose, after=after,
    )  # fmt: skip


def decision(decided_at: datetime, *plans: MigrationPlan) -> Decision:
    """One that holds these plans, and nothing else."""
    return Decision(decided_at, (), plans, (), 0.5, 0.8)
