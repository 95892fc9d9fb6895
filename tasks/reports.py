"""What a person reads about a migration at its end."""

from __future__ import annotations

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_store import MigrationStore
from tasks.report_markdown import report_markdown


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
