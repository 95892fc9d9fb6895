"""The final report of a migration: the stored confirmation in words and tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from foreshard.markdown import plain
from foreshard.migration import reckoning
from foreshard.quantities import duration, many, size
from foreshard.topology.keys import SLOTS
from tasks import approval_markdown, fleet_time, links
from tasks.risk_markdown import more

SHOWN = 50
"""Buckets, verifications and repairs that are listed."""

_ENDS = {
    "done": "the target owns all keys, and the source's copy is removed",
    "aborted": "it was given up before its cutover; the source owns all keys, and the target's copy is removed",
    "reversed": "it was taken back after its cutover; the source owns all keys, and the target's copy is removed",
}


def report_markdown(document: Mapping[str, Any]) -> str:
    """What was moved, what it took beside what was predicted, pauses, checks, who approved. Times are UTC."""
    number, plan = document["migration"], document.get("plan")
    outcome = document["outcome"]
    lines = [
        f"# Migration {number}: {outcome}",
        "",
        links.line(
            links.to_fleet(),
            links.to_artifact(f"plan-{plan}", f"Plan {plan}") if plan else "",
            links.to_artifact(f"migration-{number}-progress", "Progress"),
            links.to_artifact(f"migration-{number}-checks", "Checks") if document["checks"] else "",
            links.to_artifact(f"migration-{number}-verification", "Verifications")
            if document.get("verifications")
            else "",
        ),
        "",
        f"**{plain(document['source'])} → {plain(document['target'])}**: {_ENDS.get(outcome, plain(str(outcome)))}.",
        "",
        *_moved(document),
        *_reckoned(document),
        *_stages(document),
        *_flips(document),
        *approval_markdown.told(document),
        *_checks(document),
        *_verifications(document),
        *_notes(document),
    ]
    return "\n".join(lines) + "\n"


def _moved(document: Mapping[str, Any]) -> list[str]:
    buckets: list[str] = document["buckets"]
    shown = ", ".join(plain(one) for one in buckets[:SHOWN])
    rest = f" and {len(buckets) - SHOWN:,} more" if len(buckets) > SHOWN else ""
    rows = "" if document["rows"] is None else f", {document['rows']:,} rows"
    copied = "" if document["bytes"] is None else f", {size(document['bytes'])} copied"
    return [
        f"- moved: {many(len(buckets), 'bucket')}{rows}{copied}: {shown}{rest}",
        f"- from {fleet_time.stored(document['started_at'])} to {fleet_time.stored(document['confirmed_at'])}, by "
        f"{many(document['runners'], 'runner')}",
        "",
    ]


def _reckoned(document: Mapping[str, Any]) -> list[str]:
    """Predicted beside measured; confirmations from before that was kept have neither."""
    lines = reckoning.side_by_side(document.get("predicted"), document.get("measured"))
    if not lines:
        return []
    said = document.get("predicted_by") or ["the plan was stored without a prediction"]
    return [
        "## Predicted and measured",
        "",
        "| | predicted | measured | ratio |",
        "|---|---:|---:|---:|",
        *(f"| {line.what} | {line.predicted} | {line.measured} | {line.ratio} |" for line in lines),
        "",
        f"Predicted by: {plain('; '.join(said))}.",
        "",
    ]


def _stages(document: Mapping[str, Any]) -> list[str]:
    return [
        "## Stages",
        "",
        "| stage | took |",
        "|---|---:|",
        *(f"| {stage.replace('_', ' ')} | {duration(s)} |" for stage, s in document["stage_seconds"].items()),
        "",
    ]


def _flips(document: Mapping[str, Any]) -> list[str]:
    if not document["flips"]:
        return ["No key changed its owner.", ""]
    return [
        "## Changes of ownership",
        "",
        "| flip | keys of the target | writers waited | attempts |",
        "|---|---|---:|---:|",
        *(
            f"| {flip['flip']} ({flip['state']}) | {_share(flip['from'])} to {_share(flip['to'])} | "
            f"{_pause(flip['pause_ms'])} | {flip['attempts']} |"
            for flip in document["flips"]
        ),
        "",
    ]


def _checks(document: Mapping[str, Any]) -> list[str]:
    if not document["checks"]:
        return []
    return [
        "## Checks",
        "",
        "| before | flip | verdict | evaluated | evidence, sha256 |",
        "|---|---:|---|---:|---|",
        *(
            f"| {check['checkpoint'].replace('_', ' ')} | {check['flip']} | {'go' if check['passed'] else '**NO**'} | "
            f"{check['evaluated']} of {check['expected']} | `{check['evidence_sha256'][:12]}` |"
            for check in document["checks"]
        ),
        "",
    ]


def _verifications(document: Mapping[str, Any]) -> list[str]:
    made, repairs = document.get("verifications", []), document.get("repairs", [])
    if not made and not repairs:
        return []
    verdicts = {True: "passed", False: "**failed**", None: "no verdict"}
    lines = ["## Verifications and repairs", ""]
    lines += [
        f"- verification {one['verification']}{' of ' + plain(one['bucket']) if one['bucket'] else ''}: "
        f"{verdicts[one['passed']]}, {fleet_time.stored(one['begun_at'])}, by {plain(one['made_by'])}"
        for one in made[:SHOWN]
    ]
    lines += more(len(made) - SHOWN, "verifications")
    lines += [
        f"- {plain(one['what'])}: {many(one['rows'], 'row')} of {plain(one['table'])} on {plain(one['shard'])}, "
        f"{fleet_time.stored(one['at'])}, by {plain(one['said_by'])}"
        for one in repairs[:SHOWN]
    ]
    return [*lines, *more(len(repairs) - SHOWN, "repairs"), ""]


def _notes(document: Mapping[str, Any]) -> list[str]:
    notes = [*document.get("notes", []), *document.get("canary_obstacles", [])]
    for name, said in (
        ("way_back_ended_by", "ended without a way back"),
        ("verification_overruled", "overruled"),
    ):
        if document.get(name):
            notes.append(f"{said}: {document[name]}")
    if not notes:
        return []
    return [
        "## Notes",
        "",
        *(f"- {plain(str(note))}" for note in notes[:SHOWN]),
        *more(len(notes) - SHOWN, "notes"),
    ]


def _share(bound: int) -> str:
    return f"{round(100 * bound / SLOTS, 1):g} %"


def _pause(milliseconds: float | None) -> str:
    return "finished after a crash" if milliseconds is None else f"{milliseconds:.1f} ms"
