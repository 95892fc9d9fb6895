"""Risks and plans in the UI: tables, reasons, and the picture of the shard that a plan relieves."""

from __future__ import annotations

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from foreshard.control.engine import ControlDatabase
from foreshard.control.forecast_store import ForecastStore
from foreshard.control.plan_store import DecisionRecord, PlanRecord, PlanStore
from foreshard.control.topology_store import TopologyStore
from foreshard.planning.explain import explain
from foreshard.planning.plan import Decision
from foreshard.settings import Settings
from tasks.forecast_artifacts import picture


@task(name="show risks", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=2)
def show_risks(record: DecisionRecord) -> None:
    """The risk table of a decision."""
    create_markdown_artifact(
        key="risks", markdown=risks_markdown(record), description=f"Decision {record.id}: risk of every shard"
    )


@task(name="show plan", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=2)
def show_plan(control: ControlDatabase, settings: Settings, record: PlanRecord) -> None:
    """The plan with its reasons and picture."""
    create_markdown_artifact(
        key=f"plan-{record.id}",
        markdown=plan_with_picture(control, settings, record.id),
        description=f"Plan {record.id}: {record.plan.source} to {record.plan.target}",
    )


def risks_markdown(record: DecisionRecord) -> str:
    """Every resource of every shard, in units of capacity."""
    decision: Decision = record.decision
    lines = [
        f"# Risk at {decision.decided_at:%Y-%m-%d %H:%M} UTC (fleet clock)",
        f"Decision {record.id} on forecast {record.forecast_run_id}: {len(record.plan_ids)} plan(s). Busiest resource "
        f"now at {decision.max_utilisation:.0%}; a system without forecasts would act at "
        f"{decision.reactive_threshold:.0%}.",
        "",
        "| shard | resource | now | predicted peak | of capacity | above from | score |",
        "|---|---|---:|---:|---:|---|---:|",
    ]
    for risk in decision.risks:
        for one in risk.resources:
            mark = "**" if one.metric == risk.worst and risk.score > 0 else ""
            above = f"{one.excess_at:%a %H:%M} UTC" if one.excess_at else "never"
            lines.append(
                f"| {risk.shard} | {mark}{one.metric}{mark} | {one.utilisation:.0%} | {one.predicted:,.4g} | "
                f"{one.predicted_utilisation:.0%} | {above} | {one.score:.4f} |"
            )
    lines += ["", *(f"- {note}" for note in decision.notes)]
    return "\n".join(lines)


def plan_with_picture(control: ControlDatabase, settings: Settings, plan_id: int) -> str:
    """The source's forecast as it was when the plan was made, then the plan in words and numbers."""
    plans = PlanStore(control)
    record = plans.get(plan_id)
    forecast = ForecastStore(control).get(plans.decision(record.decision_id).forecast_run_id)
    shard = TopologyStore(control).shard(record.plan.source)
    return "\n\n".join([picture(control, settings, forecast, shard), explain(record.plan)])
