"""Gives all keys of a migration back to the source: by abort before the cutover, by reverse after it."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from prefect.runtime import flow_run
from pydantic import Field

from foreshard.control.session import session
from foreshard.migration.runner import Runner
from tasks import reports, run_labels, stages
from tasks.form_fields import Help


@flow(name="reverse", persist_result=False)
def reverse(
    migration_id: Annotated[
        int, Field(ge=1), Help("Number of the migration to take back: see the artifact fleet.")
    ],
) -> None:
    """Takes a migration back without losing a write. Possible until `finalise` has begun.

    Refused while another run drives the migration: cancel that run first.
    """
    with session() as (settings, control):
        run_labels.of_migration(control, "reverse", migration_id=migration_id)
        migration = stages.open_migration(control, settings, None, migration_id)
        with Runner(control, settings, migration, flow_run.id, flow_run.id) as runner:
            stages.give_back(runner)
        reports.migration_report(control, migration, return_state=True)
