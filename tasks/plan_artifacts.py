"""Risks, plans and decisions in the UI: tables, reasons, and pictures."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from foreshard.control.calendar_store import CalendarStore
from foreshard.control.engine import ControlDatabase
from foreshard.control.plan_picture import plan_picture
from foreshard.control.plan_store import DecisionRecord, PlanRecord, PlanStore
from foreshard.markdown import cell
from foreshard.plan_plot import PlanPicture, plan_png, timeline_png, timeline_span
from foreshard.planning.explain import explain, percent
from foreshard.planning.explain_decision import decision_summary, explain_decision, risk_table
from foreshard.planning.windows import allowed, parse_windows
from foreshard.quantities import resource
from foreshard.settings import Settings
from tasks.plots import as_markdown

FORECAST_AGAIN = 2
"""Plans of a decision, the first ones, whose picture is forecast again with the buckets moved: that takes seconds."""


@task(name="show risks", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=2)
def show_risks(record: DecisionRecord) -> None:
    """The risk table of a decision."""
    create_markdown_artifact(
        key="risks", markdown=risks_markdown(record), description=f"Decision {record.id}: risk of every shard"
    )


@task(name="show decision", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=2)
def show_decision(control: ControlDatabase, settings: Settings, record: DecisionRecord) -> None:
    """The whole decision: when its plans run, risks, plans in order, what was not done and what is missing."""
    create_markdown_artifact(
        key="decision",
        markdown=decision_markdown(control, settings, record),
        description=f"Decision {record.id}: {len(record.plan_ids)} plan(s)",
    )


@task(name="show plan", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=2)
def show_plan(control: ControlDatabase, settings: Settings, record: PlanRecord) -> None:
    """The plan with its reasons and picture."""
    first = PlanStore(control).decision(record.decision_id).plan_ids[:FORECAST_AGAIN]
    create_markdown_artifact(
        key=f"plan-{record.id}",
        markdown=plan_with_picture(control, settings, record.id, forecast_again=record.id in first),
        description=f"Plan {record.id}: {record.plan.source} to {record.plan.target}",
    )


def risks_markdown(record: DecisionRecord) -> str:
    """Every resource of every shard, in units of capacity; what took no part is among the notes."""
    decision = record.decision
    lines = [
        f"# Risk at {decision.decided_at:%Y-%m-%d %H:%M} UTC (fleet clock)",
        f"Decision {record.id} on forecast {record.forecast_run_id}. {decision_summary(decision)}",
        "",
        *risk_table(decision),
        "",
        *(f"- {note}" for note in decision.notes),
    ]
    return "\n".join(lines)


def decision_markdown(control: ControlDatabase, settings: Settings, record: DecisionRecord) -> str:
    """The picture of the timeline if there is a plan, then the decision in words and numbers."""
    names = [f"plan {plan_id}" for plan_id in record.plan_ids]
    words = explain_decision(record.decision, names)
    if not record.plan_ids:
        return words
    closed = closed_times(control, settings, record)
    png = timeline_png(record.decision, names, closed, settings.clock.timezone)
    return "\n\n".join([as_markdown(png, "when the plans run"), words])


def plan_with_picture(
    control: ControlDatabase, settings: Settings, plan_id: int, *, forecast_again: bool = False
) -> str:
    """Both ends' forecasts as they were when the plan was made, and with it done; then the plan in words."""
    record = PlanStore(control).get(plan_id)
    drawn = plan_picture(control, settings, record, forecast_again=forecast_again)
    image = _image(drawn) if drawn is not None else "*The forecast that it was made on is no longer kept.*"
    return "\n\n".join([image, explain(record.plan, [f"plan {number}" for number in record.after])])


def _image(drawn: PlanPicture) -> str:
    ends = ", ".join(
        f"{cell(one.shard)} peaks at {percent(float(one.band.at(drawn.level).max()) / one.capacity)} of capacity, "
        f"{percent(float(one.then.max()) / one.capacity)} with the plan done"
        for one in (drawn.source, drawn.target)
    )
    return as_markdown(plan_png(drawn), f"{resource(drawn.metric)}: {ends}")


def closed_times(
    control: ControlDatabase, settings: Settings, record: DecisionRecord
) -> list[tuple[datetime, datetime]]:
    """When no migration may run, of the time that is drawn: outside of windows, and in blackouts."""
    begin, end = timeline_span(record.decision)
    zone = ZoneInfo(settings.clock.timezone)
    windows = parse_windows(record.policy.get("windows", ()))
    closed, since = [], begin
    for span in allowed(windows, CalendarStore(control).blackouts(begin, end), begin, end, zone):
        if since < span.starts_at:
            closed.append((since, span.starts_at))
        since = span.ends_at
    return [*closed, (since, end)] if since < end else closed
