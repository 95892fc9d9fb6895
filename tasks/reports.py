"""What a person reads about a migration: the question before a flip, and the report at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from data_checks.migration_gate import GateReport
from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_store import MigrationStore
from foreshard.migration.runner import Step
from foreshard.migration.work import Work
from tasks import gate_markdown
from tasks.report_markdown import report_markdown


def approval_markdown(work: Work, step: Step, report: GateReport, plan: str) -> str:
    """The text above the approval form: what happens on yes and on no, the evidence, the ``plan`` with its plot."""
    record = work.record
    runs = work.store.stage_runs(record.id)
    done = [
        f"| {run.name} | {(run.finished_at - run.started_at).total_seconds():.1f} s | {_facts(run.detail)} |"
        for run in runs
        if run.finished_at is not None and run.outcome == "finished"
    ]
    shadow = work.shadows.totals(record.id)
    return "\n".join(
        [
            f"# {step.name.replace('_', ' ').capitalize()}: {len(record.buckets)} buckets, "
            f"{record.source} to {record.target}?",
            "",
            f"**approve**: the checks run once more, then {_consequence(step, record.target)} Until *finalise* "
            "it can be reversed without losing a write.  ",
            f"**reject**: everything is undone; {record.source} keeps all keys.",
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


def _consequence(step: Step, target: str) -> str:
    if step.percent is not None:
        return f"{target} owns {step.percent:g} % of the keys."
    return f"{target} owns all keys, for reads and writes; writers wait for some milliseconds."


def _facts(detail: Mapping[str, Any]) -> str:
    shown = {key: value for key, value in detail.items() if isinstance(value, int | float | str)}
    return ", ".join(f"{key.replace('_', ' ')} {_number(value)}" for key, value in shown.items())[:160]


def _number(value: float | str) -> str:
    if isinstance(value, str | bool):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}"


@task(
    name="final report", task_run_name="final report", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=2
)
def migration_report(control: ControlDatabase, migration_id: int) -> None:
    """The confirmation of a migration that has ended, as an artifact with a stable key."""
    document = MigrationStore(control).confirmation(migration_id)
    if document is None:
        get_run_logger().warning("Migration %s has no confirmation.", migration_id)
        return
    create_markdown_artifact(
        key=f"migration-{migration_id}-report",
        markdown=report_markdown(document),
        description=f"Migration {migration_id}, {document['source']} to {document['target']}: {document['outcome']}",
    )
