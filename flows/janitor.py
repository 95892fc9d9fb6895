"""Starts plans whose turn it is and migrations that nobody drives any more; removes what ended ones left behind."""

from __future__ import annotations

from typing import Annotated

from prefect import flow

from foreshard.control.session import session
from tasks import alerts, due_plans, expiry, recovery, run_labels, zombies
from tasks.form_fields import Help


@flow(name="janitor", persist_result=False)
def janitor(
    dry_run: Annotated[bool, Help("Only log what would be removed; start and change nothing.")] = False,
) -> list[int]:
    """Starts what should run and does not, and removes what ended migrations left behind.

    Runs by itself every minute. Every migration whose run died gets a new `migrate` run; returns their numbers. Plans
    whose planned start has come get their run here, and those another one whose run died before it opened their
    migration.

    Holds no state: the lease in the control database says who drives a migration. One that waits for a person's
    approval, that failed, or that a person cancelled in the UI is left alone, but for a shard of it that was failed
    over: that is settled, since its keys have no owner until then; and but for one whose streams run out of room:
    before its cutover it is aborted while that is clean. One that somebody asked to give back gets a run that does.
    A question that nobody answered in time is ended.
    Of a migration that has ended nothing may stand on any shard: what does is removed, and logged.
    Runs that Prefect goes on calling running after their process was killed are called crashed.
    """
    run_labels.rename("janitor, dry run" if dry_run else "janitor")
    with session() as (settings, control):
        if not dry_run:
            recovery.give_owners(control, settings)
            recovery.watch_over(control, settings)
            expiry.expire(control)
        restarted = (
            []
            if dry_run
            else [
                migration.id
                for migration in recovery.unattended(control)
                if recovery.restart(control, migration)
            ]
        )
        if not dry_run:
            zombies.mark_dead(control)
            due_plans.start_dead_again(control, settings)
            due_plans.start_due(control, settings)
        recovery.clean_up(control, dry_run)
        if not dry_run:
            alerts.tell(control, settings, return_state=True)  # the next minute's run tries again
        return restarted
