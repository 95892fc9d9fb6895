"""Questions to a person that nobody answers, or nobody can: what the janitor does about them.

It only ends the wait. `recovery.restart` then starts a run for the migration, as for every one whose run has ended, and
that run asks anew, or gives the migration up, as `approval.on_expiry` says.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.states import Failed

from foreshard.control.approval_store import ApprovalStore
from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_store import MigrationStore
from tasks import runs
from tasks.approval import take_answers

FORM_WITHIN = timedelta(minutes=1)
"""A run stores its form right after it has suspended; one without a form by then died in between."""


@task(name="expire approvals", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=2)
def expire(control: ControlDatabase) -> list[int]:
    """Ends questions whose time is over, and waits that cannot be answered; returns the migrations' numbers.

    Answers that lie in Prefect for a run that will never read them are deleted: they may hold tokens.
    """
    logger = get_run_logger()
    approvals = ApprovalStore(control)
    for late in approvals.expire_overdue("janitor"):
        logger.warning(
            "Migration %d: nobody answered attempt %d about flip %d in time.",
            late.migration,
            late.id,
            late.flip_no,
        )
    ended = []
    for migration in MigrationStore(control).live():
        if migration.waiting_for != "approval" or migration.flow_run_id is None:
            continue
        attempt = approvals.newest(migration.id)
        state = runs.state_of(migration.flow_run_id)
        if attempt is None or state is None:
            continue
        run_id = UUID(migration.flow_run_id)
        if state.is_final():
            take_answers(run_id)
            continue
        if not state.is_paused():
            continue
        if attempt.state != "pending":
            why = f"Attempt {attempt.id} is {attempt.state}. A new run goes on."
        elif _has_no_form(run_id, state):
            why = "The run died before it had stored its form. A new run asks again."
        else:
            continue
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(run_id, Failed(message=why), force=True)
        take_answers(run_id)
        ended.append(migration.id)
    return ended


def _has_no_form(run_id: UUID, state: State) -> bool:
    if datetime.now(UTC) - state.timestamp < FORM_WITHIN:
        return False
    with get_client(sync_client=True) as client:
        return not runs.has_form(client, run_id, state)
