"""Risks, plans and decisions in the UI: tables, reasons, and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from foreshard.control.calendar_store import CalendarStore
from foreshard.control.engine import ControlDatabase
from foreshard.control.plan_picture import metric_of, plan_picture
from foreshard.control.plan_store import DecisionRecord, PlanRecord, PlanStore
from foreshard.markdown import plain
from foreshard.plan_plot import PlanPicture, plan_png, timeline_png, timeline_span
from foreshard.planning.explain import buckets_in_words, explain, percent, summary
from foreshard.planning.explain_decision import decision_summary
from foreshard.planning.plan import Decision, MigrationPlan
from foreshard.planning.windows import allowed, parse_windows
from foreshard.quantities import resource, size
from foreshard.settings import Settings
from tasks import fleet_time, links, plan_links, risk_markdown
from tasks.artifact_keys import artifact_key
from tasks.plots import as_markdown

FORECAST_AGAIN = 2
"""Plans of a decision, the first ones, whose picture is forecast again with the buckets moved: that takes seconds."""

SHOWN = 50
"""Plans, and notes, of a decision that are listed."""


@task(name="show risks", task_run_name="show risks", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=2)
def show_risks(settings: Settings, record: DecisionRecord) -> None:
    """The risk table of a decision."""
    over = sum(one.excess_at is not None for one in record.decision.risks)
    create_markdown_artifact(
        key="risks",
        markdown=risks_markdown(record, settings.clock.timezone),
        description=f"Decision {record.id}: {over} of {len(record.decision.risks)} shards may pass their capacity",
    )


@task(
    name="show decision",
    task_run_name="show decision",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=2,
)
def show_decision(control: ControlDatabase, settings: Settings, record: DecisionRecord) -> None:
    """The whole decision: when its plans run, risks, plans in order, what was not done and what is missing."""
    create_markdown_artifact(
        key="decision",
        markdown=decision_markdown(control, settings, record),
        description=f"Decision {record.id} on forecast {record.forecast_run_id}: {len(record.plan_ids)} plan(s)",
    )


@task(
    name="show dry run", task_run_name="show dry run", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=2
)
def show_dry_run(settings: Settings, record: DecisionRecord) -> None:
    """The decision that was not stored, and its plans."""
    create_markdown_artifact(
        key="decision-dry-run",
        markdown=dry_run_markdown(record, settings.clock.timezone),
        description=f"Dry run on forecast {record.forecast_run_id}: nothing is stored or started",
    )


@task(
    name="show plan",
    task_run_name="show plan {record.id}",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=2,
)
def show_plan(control: ControlDatabase, settings: Settings, record: PlanRecord) -> None:
    """The plan with its reasons and picture, and links to what it was made from."""
    decision = PlanStore(control).decision(record.decision_id)
    first = decision.plan_ids[:FORECAST_AGAIN]
    text = plan_with_picture(control, settings, record.id, forecast_again=record.id in first)
    create_markdown_artifact(
        key=f"plan-{record.id}",
        markdown="\n\n".join([links_of(record, decision), text]),
        description=f"Plan {record.id}: move {buckets_in_words(record.plan)} from {record.plan.source} to "
        f"{record.plan.target}",
    )


def links_of(record: PlanRecord, decision: DecisionRecord) -> str:
    """What a plan was made from, and what became of it."""
    source = record.plan.source
    forecast = artifact_key("forecast", source, metric_of(record.plan)) if record.plan.effects else "forecast"
    return links.line(
        links.to_fleet(),
        links.to_artifact("decision", f"Decision {record.decision_id}"),
        links.to_artifact("forecast", f"Forecast {decision.forecast_run_id}"),
        links.to_artifact(forecast, f"Forecast of {source}") if forecast != "forecast" else "",
        plan_links.NOT_BEGUN,
    )


def risks_markdown(record: DecisionRecord, timezone: str) -> str:
    """Every shard, in units of capacity; what took no part is among the notes."""
    decision = record.decision
    planned = risk_markdown.plans_by_source(decision.plans, record.plan_ids)
    lines = [
        f"# Risk at {fleet_time.moment(decision.decided_at, timezone)}",
        "",
        links.line(
            links.to_fleet(),
            links.to_artifact("decision", f"Decision {record.id}"),
            links.to_artifact("forecast", f"Forecast {record.forecast_run_id}"),
        ),
        "",
        decision_summary(decision, ZoneInfo(timezone)),
        "",
        *risk_markdown.table(decision.risks, planned, timezone),
        "",
        risk_markdown.MEANING,
        "",
        *_notes(decision.notes),
    ]
    return "\n".join(lines)


def dry_run_markdown(record: DecisionRecord, timezone: str) -> str:
    """What would be planned, and why: nothing of it has a number or a page of its own."""
    decision = record.decision
    lines = [
        f"# What would be decided at {fleet_time.moment(decision.decided_at, timezone)}",
        "",
        links.line(links.to_fleet(), links.to_artifact("forecast", f"Forecast {record.forecast_run_id}")),
        "",
        decision_summary(decision, ZoneInfo(timezone)),
        "",
        *risk_markdown.table(decision.risks, {}, timezone),
        "",
        risk_markdown.MEANING,
    ]
    for plan in decision.plans[:SHOWN]:
        lines += ["", explain(plan, zone=ZoneInfo(timezone))]
    lines += risk_markdown.more(len(decision.plans) - SHOWN, "plans")
    return "\n".join([*lines, *_left(decision)]) + "\n"


def decision_markdown(control: ControlDatabase, settings: Settings, record: DecisionRecord) -> str:
    """What is planned and when, with a picture of the timeline; what is missing, and what was not done."""
    decision, zone = record.decision, settings.clock.timezone
    names = [f"plan {plan_id}" for plan_id in record.plan_ids]
    lines = [
        f"# Decision {record.id} of {fleet_time.moment(decision.decided_at, zone)}",
        "",
        links.line(
            links.to_fleet(),
            links.to_artifact("forecast", f"Forecast {record.forecast_run_id}"),
            links.to_artifact("risks", "Risk of every shard"),
        ),
        "",
        decision_summary(decision, ZoneInfo(zone)),
    ]
    if names:
        png = timeline_png(decision, names, closed_times(control, settings, record), zone)
        lines += ["", as_markdown(png, "when the plans run"), "", "## Plans, in order", ""]
        each = zip(record.plan_ids, decision.plans, strict=True)
        lines += [_planned(number, plan, names, zone) for number, plan in list(each)[:SHOWN]]
        lines += risk_markdown.more(len(names) - SHOWN, "plans")
    return "\n".join([*lines, *_left(decision)]) + "\n"


def _planned(number: int, plan: MigrationPlan, names: Sequence[str], timezone: str) -> str:
    when = plan.timeline
    waits = ", ".join(names[position] for position in plan.after)
    return (
        f"1. {links.to_artifact(f'plan-{number}', f'Plan {number}')}, {plan.purpose.value}: **{plain(plan.source)} → "
        f"{plain(plan.target)}**, {buckets_in_words(plan)}, {size(plan.bytes)}. Starts "
        f"{fleet_time.moment(when.not_before, timezone)}, ends by {fleet_time.hour(when.ends_at, timezone)} with margin"
        f"{f', after {waits}' if waits else ''}. {summary(plan, ZoneInfo(timezone))}"
    )


def _left(decision: Decision) -> list[str]:
    """How a decision's page ends: what is missing, and what was not done."""
    missing = (
        [] if decision.shortage is None else ["", "## What is missing", "", plain(decision.shortage.text)]
    )
    return [*missing, "", *_notes(decision.notes)]


def _notes(notes: Sequence[str]) -> list[str]:
    if not notes:
        return []
    shown = [f"- {plain(note)}" for note in notes[:SHOWN]]
    return ["## What was not done", "", *shown, *risk_markdown.more(len(notes) - SHOWN, "notes")]


def plan_with_picture(
    control: ControlDatabase, settings: Settings, plan_id: int, *, forecast_again: bool = False
) -> str:
    """Both ends' forecasts as they were when the plan was made, and with it done; then the plan in words."""
    record, zone = PlanStore(control).get(plan_id), ZoneInfo(settings.clock.timezone)
    drawn = plan_picture(control, settings, record, forecast_again=forecast_again)
    image = _image(drawn) if drawn is not None else "*The forecast that it was made on is no longer kept.*"
    return "\n\n".join([image, explain(record.plan, [f"plan {number}" for number in record.after], zone)])


def _image(drawn: PlanPicture) -> str:
    ends = ", ".join(
        f"{one.shard} peaks at {percent(float(one.band.at(drawn.level).max()) / one.capacity)} of capacity, "
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
