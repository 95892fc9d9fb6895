"""Gives all keys of a migration back to the source: by abort before the cutover, by reverse after it."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from prefect.runtime import flow_run
from pydantic import Field

from foreshard.control.session import session
from foreshard.migration.runner import Runner
from tasks import away, reports, stages


@flow(name="reverse", persist_result=False)
def reverse(migration_id: Annotated[int, Field(ge=1, description="The migration to take back")]) -> None:
    """Takes a migration back without losing a write. Possible until `finalise` has begun.

    Refused while another run drives the migration: cancel that run first.
    """
    with session() as (settings, control):
        migration = stages.open_migration(control, settings, None, migration_id)
        runner = Runner(control, settings, migration, flow_run.id, flow_run.id)
        with runner, away.as_interruption():
            stages.give_back(runner)
        reports.migration_report(control, migration, return_state=True)
