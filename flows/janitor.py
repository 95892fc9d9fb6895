"""Finds migrations that nobody drives any more and starts them again."""

from __future__ import annotations

from prefect import flow

from foreshard.control.session import session
from tasks import recovery


@flow(name="janitor", persist_result=False)
def janitor() -> list[int]:
    """Starts a new `migrate` run for every migration whose run died; returns their numbers.

    Holds no state: the lease in the control database says who drives a migration. One that waits for a person's
    approval, that failed, or that a person cancelled in the UI is left alone.
    """
    with session() as (_, control):
        return [migration.id for migration in recovery.unattended(control) if recovery.restart(migration)]
