"""Scores the risk of every shard, plans moves, and starts them. Follows each forecast."""

from __future__ import annotations

from prefect import flow

from foreshard.control.plan_store import PlanStore
from foreshard.control.session import session
from tasks import deciding, plan_artifacts


@flow(name="decide", persist_result=False)
def decide() -> list[int]:
    """Decides on the newest forecast and starts one `migrate` run for each plan; returns the plans' numbers.

    Running it again changes nothing: one decision a forecast, one run a plan.
    """
    with session() as (settings, control):
        decided = deciding.decide_on_newest(control, settings)
        records = [PlanStore(control).get(plan_id) for plan_id in decided.plan_ids]
        for record in records:
            if record.state == "proposed":
                deciding.start_migration(record)
        # A picture that cannot be drawn is a failed task, not a failed decision.
        plan_artifacts.show_risks(decided, return_state=True)
        for record in records:
            plan_artifacts.show_plan(control, settings, record, return_state=True)
        return list(decided.plan_ids)
