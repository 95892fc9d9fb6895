"""Holds a migration where it stands, until somebody resumes it."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed
from pydantic import Field

from foreshard.control.session import session
from foreshard.migration.requests import Ask
from tasks import run_labels, steering
from tasks.form_fields import Help


@flow(name="pause", persist_result=False)
def pause(
    migration_id: Annotated[
        int, Field(ge=1), Help("Number of the migration to hold: see the artifact fleet.")
    ],
    who: Annotated[
        str, Field(pattern=r"\S", max_length=200), Help("Your name; it is kept with the migration.")
    ],
    why: Annotated[str, Field(max_length=2000), Help("The reason; kept as well.")] = "",
) -> State[None]:
    """Holds a migration at its next safe point, which takes seconds; a cutover that has begun is ended first.

    Its `migrate` run is then Suspended: **Resume** on that run's page goes on. Every key keeps its owner and both
    streams go on meanwhile. A copy that is held for more than ten minutes may have to begin anew.
    """
    run_labels.rename(f"pause migration {migration_id}")
    with session() as (_, control):
        asked = steering.await_held(control, steering.ask(control, migration_id, Ask.PAUSE, who, why))
        if asked.outcome is not None:
            return Cancelled(
                message=f"It is not paused: {asked.outcome} by {asked.settled_by}. {asked.settlement}"
            )
        return Completed(message=steering.held_in_words(control, asked))
