"""Scores the risk of every shard, plans moves, and starts those whose turn it is. Follows each forecast."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from pydantic import Field

from foreshard.control.plan_store import PlanStore
from foreshard.control.session import session
from tasks import deciding, due_plans, events
from tasks.policy_form import STANDING, PolicyOverrides


@flow(name="decide", persist_result=False)
def decide(
    policy: PolicyOverrides = STANDING,
    dry_run: bool = False,
    forecast_id: Annotated[int, Field(ge=1)] | None = None,
) -> list[int]:
    """Decides on a forecast, starts a `migrate` run for each plan whose turn it is, returns the plans' numbers.

    The policy is that of the settings, with the fields of the Prefect Variable `foreshard_policy` (JSON, read in each
    run) in its place, and with those that are filled in here in theirs. A value out of its range fails the run and
    names the field; nothing is stored then. Running it again changes nothing: one decision a forecast and policy, one
    run a plan. Plans of earlier decisions expire, unless this one makes the same move or they are migrations already.

    Args:
        policy: Numbers of the policy for this run only. Empty: as the standing policy has them.
        dry_run: Decide and show; store nothing, start nothing.
        forecast_id: The forecast to decide on. Empty: the newest of the whole fleet.
    """
    with session() as (settings, control):
        effective = deciding.read_policy(control, settings, policy.given(), dry_run)
        decided = deciding.decide_on(control, settings, effective, forecast_id, dry_run)
        if dry_run:
            deciding.show_dry_run(decided, return_state=True)
            return []
        due_plans.start_dead_again(control, settings)
        started = due_plans.start_due(control, settings)
        if decided.new:
            events.decision_completed(decided.id, decided.forecast_run_id, decided.plan_ids, started)
        from tasks import plan_artifacts  # here: the migrations are on their way while what draws is imported

        # A picture that cannot be drawn is a failed task, not a failed decision.
        plan_artifacts.show_risks(decided, return_state=True)
        plan_artifacts.show_decision(control, settings, decided, return_state=True)
        for plan_id in decided.plan_ids:
            plan_artifacts.show_plan(control, settings, PlanStore(control).get(plan_id), return_state=True)
        return list(decided.plan_ids)
