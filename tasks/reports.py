"""What a person reads about a migration at its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_store import MigrationStore
from foreshard.migration import reckoning
from tasks import approval_markdown


@task(name="final report", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=2)
def migration_report(control: ControlDatabase, migration_id: int) -> None:
    """The confirmation of a migration that has ended, as an artifact with a stable key."""
    document = MigrationStore(control).confirmation(migration_id)
    if document is None:
        get_run_logger().warning("Migration %s has no confirmation.", migration_id)
        return
    create_markdown_artifact(
        key=f"migration-{migration_id}-report",
        markdown=report_markdown(document),
        description=f"Migration {migration_id}: {document['outcome']}",
    )


def report_markdown(document: Mapping[str, Any]) -> str:
    """A confirmation in words and tables."""
    buckets: list[str] = document["buckets"]
    lines = [
        f"# Migration {document['migration']}: {document['outcome']}",
        f"{len(buckets)} buckets ({', '.join(buckets)}) from {document['source']} to {document['target']}, "
        f"{document['rows'] or 0:,} rows, {(document['bytes'] or 0) / 1e6:,.0f} MB. "
        f"Begun {document['started_at']}, confirmed {document['confirmed_at']}, "
        f"{document['runners']} runner(s).",
        "",
        *_reckoned(document),
        "| stage | seconds |",
        "|---|---:|",
        *(f"| {stage} | {seconds:,.1f} |" for stage, seconds in document["stage_seconds"].items()),
        "",
        "| flip | bound | writers waited | attempts |",
        "|---|---|---:|---:|",
        *(
            f"| {flip['flip']} ({flip['state']}) | {flip['from']} to {flip['to']} | {_pause(flip['pause_ms'])} | "
            f"{flip['attempts']} |"
            for flip in document["flips"]
        ),
        "",
        "| checks | flip | verdict | evaluated | evidence |",
        "|---|---|---|---:|---|",
        *(
            f"| {check['checkpoint']} | {check['flip']} | {'go' if check['passed'] else 'NO'} | "
            f"{check['evaluated']} of {check['expected']} | `{check['evidence_sha256'][:16]}` |"
            for check in document["checks"]
        ),
        "",
        *approval_markdown.told(document),
    ]
    return "\n".join(lines)


def _reckoned(document: Mapping[str, Any]) -> list[str]:
    """Predicted beside measured; confirmations from before that was kept have neither."""
    lines = reckoning.side_by_side(document.get("predicted"), document.get("measured"))
    if not lines:
        return []
    said = document.get("predicted_by") or ["the plan was stored without a prediction"]
    return [
        "| | predicted | measured | ratio |",
        "|---|---:|---:|---:|",
        *(f"| {line.what} | {line.predicted} | {line.measured} | {line.ratio} |" for line in lines),
        "",
        f"Predicted by: {'; '.join(said)}.",
        "",
    ]


def _pause(milliseconds: float | None) -> str:
    return "finished after a crash" if milliseconds is None else f"{milliseconds:.1f} ms"
