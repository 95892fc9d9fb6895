"""What preflight found, in the UI and in the run's log."""

from __future__ import annotations

from prefect import get_run_logger
from prefect.artifacts import create_table_artifact

from foreshard.control.migration_store import MigrationStore
from foreshard.migration.preflight.findings import journalled


def show(store: MigrationStore, migration_id: int) -> None:
    """A table with a stable key, and a line in the log for each finding. It never stops the work."""
    logger = get_run_logger()
    try:
        findings = journalled(store.stage_runs(migration_id))
        for one in findings:
            say = logger.error if one.blocking else logger.warning
            say("preflight: %s %s. %s", one.subject, one.why, one.remedy)
        rows = [
            {
                "effect": "blocks" if one.blocking else "warns",
                "object": one.subject,
                "why it matters": one.why,
                "what to do": one.remedy,
            }
            for one in findings
        ]
        create_table_artifact(
            key=f"migration-{migration_id}-preflight",
            table=rows,
            description=f"Preflight of migration {migration_id}: {len(rows)} findings",
        )
    except Exception as error:  # a picture of the work must never stop the work
        logger.warning("What preflight found cannot be shown: %s", error)
