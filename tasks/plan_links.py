"""From a plan's artifact to the migration that carries it out."""

from __future__ import annotations

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort

from foreshard.control.migration_store import MigrationRecord
from tasks import links

NOT_BEGUN = "Its migration has not begun"
"""Stands in a plan's artifact until `show_migration` puts the links to the migration there."""


def show_migration(migration: MigrationRecord) -> None:
    """Puts the links to the migration of a plan into the plan's newest artifact. No error of showing stops the work."""
    key = ArtifactFilterKey(any_=[f"plan-{migration.plan_id}"])
    try:
        with get_client(sync_client=True) as client:
            found = client.read_artifacts(
                artifact_filter=ArtifactFilter(key=key), sort=ArtifactSort.CREATED_DESC, limit=1
            )
            text = str(found[0].data) if found else ""
            if NOT_BEGUN in text:
                data = text.replace(NOT_BEGUN, migration_links(migration), 1)
                client.update_artifact(found[0].id, ArtifactUpdate(data=data))
    except Exception as error:  # a picture of the work must never stop the work
        get_run_logger().warning("The plan's artifact cannot be linked: %s", error)


def migration_links(migration: MigrationRecord) -> str:
    """To the migration's progress and to the run that drives it."""
    return links.line(
        links.to_artifact(f"migration-{migration.id}-progress", f"Migration {migration.id}"),
        links.to_run(migration.flow_run_id, "its run") if migration.flow_run_id else "",
    )
