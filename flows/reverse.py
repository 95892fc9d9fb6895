"""Gives all keys of a migration back to the source: by abort before the cutover, by reverse after it."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed
from pydantic import Field

from foreshard.control.session import session
from foreshard.migration.requests import Ask
from tasks import away, reports, run_labels, stages, steering
from tasks.form_fields import Help


@flow(name="reverse", persist_result=False)
def reverse(
    migration_id: Annotated[
        int, Field(ge=1), Help("Number of the migration to take back: see the artifact fleet.")
    ],
    who: Annotated[
        str, Field(pattern=r"\S", max_length=200), Help("Your name; it is kept with the migration.")
    ],
    why: Annotated[str, Field(max_length=2000), Help("The reason; kept as well.")] = "",
) -> State[None]:
    """Takes a migration back without losing a write. Possible until `finalise` has begun.

    The source owns all keys again and the target's copy is removed. A run that drives the migration steps aside at
    its next safe point, which takes seconds; one that waits for an approval, or is paused, is cancelled.
    """
    with session() as (settings, control):
        run_labels.of_migration(control, "reverse", migration_id=migration_id)
        asked = steering.ask(control, migration_id, Ask.REVERSE, who, why)
        with steering.taken_over(control, settings, asked) as taken, away.as_interruption():
            if taken is None:
                told = stages.how_it_ended(control, migration_id)
                return Cancelled(message=f"Another run was faster. {told}")
            stages.give_back(taken.runner, asked)
        steering.end_other_run(taken.previous, asked)
        reports.migration_report(control, migration_id, return_state=True)
        return Completed(message=stages.how_it_ended(control, migration_id))
