"""Scores the risk of every shard, plans moves, and starts those whose turn it is. Follows each forecast."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from pydantic import Field

from foreshard.control.plan_store import PlanStore
from foreshard.control.session import session
from tasks import deciding, due_plans, events, fleet_artifact, run_labels
from tasks.form_fields import Choice, Help
from tasks.policy_form import STANDING, PolicyOverrides


@flow(name="decide", persist_result=False)
def decide(
    policy: Annotated[
        PolicyOverrides,
        Help("Numbers of the policy for this run only. Shares are of a shard's capacity: 0.8 is 80 %."),
    ] = STANDING,
    dry_run: Annotated[bool, Help("Decide and show the decision; store nothing, start nothing.")] = False,
    forecast_id: Annotated[
        Annotated[int, Field(ge=1)] | None,
        Choice("number", "the newest"),
        Help("The forecast to decide on, by its number. The newest is one of the whole fleet."),
    ] = None,
) -> list[int]:
    """Scores the risk of every shard, plans which buckets to move, and starts a `migrate` run for each plan.

    Runs by itself after each forecast; no field has to be filled in. Turn **dry run** on to try numbers of the policy:
    the artifact `decision-dry-run` shows what would be planned, and nothing is stored or started.

    The policy is that of the settings, with the fields of the Prefect Variable `foreshard_policy` (JSON, read in each
    run) in its place, and with those that are filled in here in theirs. A value out of its range is refused and names
    the field; nothing is stored then. Running it again changes nothing: one decision a forecast and policy, one run a
    plan. Plans of earlier decisions expire, unless this one makes the same move or they are migrations already.
    Returns the plans' numbers.
    """
    with session() as (settings, control):
        effective = deciding.read_policy(control, settings, policy.given(), dry_run)
        decided = deciding.decide_on(control, settings, effective, forecast_id, dry_run)
        run_labels.rename(run_labels.decide_name(decided.forecast_run_id, dry_run))
        if not dry_run:
            due_plans.start_dead_again(control, settings)
            started = due_plans.start_due(control, settings)
            if decided.new:
                events.decision_completed(decided.id, decided.forecast_run_id, decided.plan_ids, started)
        # Here: the migrations are on their way while what draws is imported.
        from tasks import plan_artifacts, shard_forecast_artifact

        if dry_run:
            plan_artifacts.show_dry_run(settings, decided, return_state=True)
            return []
        # A picture that cannot be drawn is a failed task, not a failed decision.
        plan_artifacts.show_risks(settings, decided, return_state=True)
        plan_artifacts.show_decision(control, settings, decided, return_state=True)
        for plan_id in decided.plan_ids:
            plan_artifacts.show_plan(control, settings, PlanStore(control).get(plan_id), return_state=True)
        shard_forecast_artifact.show_relief(control, settings, decided, return_state=True)
        run_labels.tag(*(f"plan-{plan_id}" for plan_id in decided.plan_ids))
        fleet_artifact.show(control, settings)
        return list(decided.plan_ids)
