"""Scores the risk of every shard, plans moves, and starts them. Follows each forecast."""

from __future__ import annotations

from prefect import flow

from foreshard.control.plan_store import PlanStore
from tasks import deciding, plan_artifacts
from tasks.session import session


@flow(name="decide", persist_result=False)
def decide() -> list[int]:
    """Decides on the newest forecast and starts one `migrate` run for each plan; returns the plans' numbers.

    Running it again changes nothing: one decision a forecast, one run a plan.
    """
    with session() as (settings, control):
        decided = deciding.decide_on_newest(control, settings)
        plan_artifacts.show_risks(decided)
        for plan_id in decided.plan_ids:
            record = PlanStore(control).get(plan_id)
            plan_artifacts.show_plan(control, settings, record)
            if record.state == "proposed":
                deciding.start_migration(record)
        return list(decided.plan_ids)
