"""What a person reads before a flip, above the form, and afterwards who said what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from data_checks.migration_gate import GateReport
from foreshard.control.approval_store import ApprovalRecord
from foreshard.markdown import plain
from foreshard.migration.runner import Step
from foreshard.migration.work import Work
from foreshard.planning.timeline import Timeline
from foreshard.quantities import duration, many
from foreshard.settings import Settings
from tasks import fleet_time, gate_markdown

REFUSED = "> **The answer before this one does not count:**"
"""How a form begins that is shown once more."""

_FACTS = 160  # characters of what a step found


@dataclass(frozen=True)
class Deadlines:
    """When the question and the plan expire. ``timeline`` in fleet time, of which ``now`` is the present; people read
    it by the clock of ``timezone``."""

    remaining_s: float
    on_expiry: str
    timeline: Timeline | None
    now: datetime
    timezone: str


def question(
    work: Work, step: Step, attempt: ApprovalRecord, report: GateReport, plan: str, deadlines: Deadlines
) -> str:
    """The text above the form: what happens on yes and on no, by when, the evidence, the ``plan`` with its plot."""
    record = work.record
    source, target = plain(record.source), plain(record.target)
    shadow = work.shadows.totals(record.id)
    done = [
        f"| {plain(run.name)} | {duration((run.finished_at - run.started_at).total_seconds())} "
        f"| {plain(_facts(run.detail))} |"
        for run in work.store.stage_runs(record.id)
        if run.finished_at is not None and run.outcome == "finished"
    ]
    return "\n".join(
        [
            f"# {step.name.replace('_', ' ').capitalize()}: {many(len(record.buckets), 'bucket')}, "
            f"{source} to {target}?",
            "",
            f"- **approve**: the checks run once more, then {_consequence(step, target)} Until *finalise* "
            "it can be reversed without losing a write.",
            f"- **reject**: everything is undone; {source} keeps all keys.",
            f"- **no answer**: {_expiry(attempt, deadlines)}",
            *plan_deadline(deadlines, source),
            f"- asked because {plain(attempt.why)}; attempt {attempt.id}, flip {attempt.flip_no} of migration "
            f"{record.id}.",
            "",
            gate_markdown.in_short(report),
            "",
            f"Shadow reads: {shadow.reads} compared, {shadow.matches} equal, {shadow.lags} only late, "
            f"**{shadow.mismatches} different**, {shadow.unsettled} never settled, {shadow.failures} failed.",
            "",
            "| finished step | took | found |",
            "|---|---|---|",
            *done,
            "",
            plan,
        ]
    )


def refused(description: str, why: str) -> str:
    """The same question, with why the answer to it did not count above it."""
    asked = description.partition("\n\n")[2] if description.startswith(REFUSED) else description
    return f"{REFUSED} {plain(why)} Nothing was undone.\n\n{asked}"


def told(document: Mapping[str, Any]) -> list[str]:
    """Who said what about the flips of a migration, from its confirmation; where nobody was asked, why."""
    attempts: Sequence[Mapping[str, Any]] = document["approvals"]
    lines = [_told(word) for word in attempts]
    lines += [
        f"- Flip {flip['flip']}: nobody was asked, since {plain(flip['why'])}."
        for flip in document.get("not_asked", ())
    ]
    return ["## Approvals", "", *(lines or ["No person was asked."]), ""]


def _told(word: Mapping[str, Any]) -> str:
    state = f"- Flip {word['flip']} **{word['state']}**"
    if not word["approver"]:
        return (
            f"{state}: asked at {fleet_time.stored(word['asked_at'])}."
            if word.get("asked_at")
            else f"{state}."
        )
    proof = {True: "by token", False: "by name only"}.get(word.get("verified", None))
    details = ", ".join(plain(str(one)) for one in (proof, word.get("way")) if one)
    who = plain(word["approver"]) + (f" ({details})" if details else "")
    comment = f" \u201c{plain(word['comment'])}\u201d" if word["comment"] else ""
    return f"{state} by {who} at {fleet_time.stored(word['decided_at'])}.{comment}"


def _expiry(attempt: ApprovalRecord, deadlines: Deadlines) -> str:
    then = {
        "ask_again": "then the checks run again and the question is put anew, on their evidence.",
        "abort": "then the migration is given up: everything is undone.",
    }[deadlines.on_expiry]
    return (
        f"the question expires at {attempt.expires_at:%Y-%m-%d %H:%M:%S} UTC, in {duration(deadlines.remaining_s)}; "
        f"{then}"
    )


def plan_deadline(deadlines: Deadlines, source: str) -> list[str]:
    """From when the source may be too small and the latest start that prevents it, one line; none without a plan."""
    timeline = deadlines.timeline
    if timeline is None:
        return []
    zone = deadlines.timezone
    start = f"plan's latest start is {fleet_time.moment(timeline.start_by, zone)}"
    sentence = (
        f"the {start}"
        if timeline.excess_at is None
        else f"{source} may exceed its capacity from **{fleet_time.moment(timeline.excess_at, zone)}**: the {start}"
    )
    late = " **That has passed.**" if timeline.start_by < deadlines.now else ""
    return [f"- {sentence}; by the fleet's clock it is {fleet_time.moment(deadlines.now, zone)} now.{late}"]


def _consequence(step: Step, target: str) -> str:
    if step.percent is not None:
        return f"{target} owns {step.percent:g} % of the keys."
    return f"{target} owns all keys, for reads and writes; writers wait for some milliseconds."


def _facts(detail: Mapping[str, Any]) -> str:
    shown = {key: value for key, value in detail.items() if isinstance(value, int | float | str)}
    text = ", ".join(f"{key.replace('_', ' ')} {_number(value)}" for key, value in shown.items())
    return text if len(text) <= _FACTS else f"{text[:_FACTS]} …"


def _number(value: float | str) -> str:
    if isinstance(value, str | bool):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}"


def deadlines(settings: Settings, remaining_s: float, timeline: Timeline | None) -> Deadlines:
    """The deadlines by these settings."""
    clock = settings.clock
    return Deadlines(
        remaining_s, settings.approval.on_expiry, timeline, clock.fleet_clock().now(), clock.timezone
    )
