"""Answers to approvals from outside the Prefect UI: for the command line, the demo and scripts.

The answer is checked against the control database, and what goes through Prefect is a voucher for it: Prefect keeps
what a run is given as plain text, so no token may go there.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from foreshard.control.approval_answers import Answer
from foreshard.control.approval_store import ApprovalRecord, ApprovalStore
from foreshard.control.engine import ControlDatabase
from foreshard.control.flip_store import FlipStore
from foreshard.control.migration_store import MigrationRecord, MigrationStore
from foreshard.errors import ApprovalRequired, ForeshardError
from foreshard.settings import Settings

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

FORM_PATIENCE_S = 10.0
"""Between a run's suspension and its form's schema lie some hundredths of a second, on a busy machine a second."""


def waiting(control: ControlDatabase, migration_id: int) -> tuple[MigrationRecord, ApprovalRecord]:
    """The migration and the attempt that waits for a person.

    Raises:
        NotFound: no such migration.
        ApprovalRequired: nothing of it waits.
    """
    migration = MigrationStore(control).get(migration_id)
    store = ApprovalStore(control)
    attempt = store.newest(migration_id, FlipStore(control).next_number(migration_id))
    if migration.flow_run_id is None or attempt is None or attempt.state != "pending":
        raise ApprovalRequired(
            f"Migration {migration_id} ({migration.stage}) does not wait for an approval.",
            remedy="`foreshard status` shows what waits.",
        )
    if store.remaining_s(attempt.id) <= 0:
        raise ApprovalRequired(
            f"Attempt {attempt.id} of migration {migration_id} expired at {attempt.expires_at:%Y-%m-%d %H:%M:%S} UTC.",
            remedy="The janitor goes on as `approval.on_expiry` says, within a minute.",
        )
    return migration, attempt


def answer(
    control: ControlDatabase,
    settings: Settings,
    migration_id: int,
    *,
    approve: bool,
    approver: str,
    comment: str = "",
    token: str | None = None,
    way: Literal["cli", "api"] = "api",
) -> tuple[ApprovalRecord, bool]:
    """Answers the migration's pending approval; Prefect must be in use already.

    The flow itself stores the decision when it goes on. Returns the attempt that was answered, and whether a token
    proved who answered it.

    Raises:
        ApprovalRequired: nothing waits, or somebody else was faster; or the run died before it could be answered.
        AnswerRefused: name or token do not do; the question stands.
        ForeshardError: Prefect does not answer, or refuses the answer; nothing was decided.
    """
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.responses import SetStateStatus
    from prefect.exceptions import ObjectNotFound

    from tasks.approval import pause_key

    migration, attempt = waiting(control, migration_id)
    assert migration.flow_run_id is not None
    try:
        with get_client(sync_client=True) as client:
            run = client.read_flow_run(UUID(migration.flow_run_id))
            state = run.state
            if state is None or not state.is_paused() or state.state_details.pause_key != pause_key(attempt):
                raise ApprovalRequired(
                    f"The run of migration {migration_id} does not wait for attempt {attempt.id} (it is "
                    f"{state.name if state else 'without a state'}).",
                    remedy="If it was answered just now, wait; if it crashed, the janitor starts it again within a"
                    " minute.",
                )
            _await_form(client, migration, attempt, run)
            said = Answer(approve, approver, comment, token, way=way)
            voucher, verified = ApprovalStore(control).voucher(attempt.id, said, settings.approval.tokens)
            response = client.resume_flow_run(
                run.id,
                run_input={
                    "decision": "approve" if approve else "reject",
                    "approver": approver,
                    "comment": comment,
                    "voucher": voucher,
                },
            )
    except ObjectNotFound:
        raise ApprovalRequired(
            f"The run of migration {migration_id} that waited was deleted.",
            remedy="The janitor starts another one within a minute, which asks again.",
        ) from None
    except httpx.HTTPStatusError as failed:
        raise ForeshardError(
            f"Prefect answered {failed.response.status_code}: it may have the answer or not.",
            remedy="`foreshard status` shows whether the migration still waits.",
        ) from None
    except (httpx.HTTPError, RuntimeError) as away:
        if isinstance(away, RuntimeError) and "reach" not in str(away):
            raise
        raise ForeshardError(
            f"Prefect does not answer at {settings.prefect.api_url or 'its address'}: nothing was decided.",
            remedy="Start it, or look with `foreshard doctor`; then answer again.",
        ) from None
    if response.status is SetStateStatus.ABORT:
        raise ApprovalRequired(
            f"Attempt {attempt.id} of migration {migration_id} was answered a moment ago.",
            remedy=f"`foreshard approvals {migration_id}` says by whom.",
        )
    if response.status is not SetStateStatus.ACCEPT:
        reason = getattr(response.details, "reason", None) or "no reason given"
        raise ForeshardError(f"Prefect refused the answer: {reason}.", remedy="Correct it and answer again.")
    return attempt, verified


def _await_form(
    client: SyncPrefectClient, migration: MigrationRecord, attempt: ApprovalRecord, run: FlowRun
) -> None:
    from tasks import runs

    assert run.state is not None
    deadline = time.monotonic() + FORM_PATIENCE_S
    while not runs.has_form(client, run.id, run.state):
        if time.monotonic() > deadline:
            raise ApprovalRequired(
                f"The run of migration {migration.id} died before it had stored the form of attempt {attempt.id}.",
                remedy="The janitor starts another one within two minutes, which asks again.",
            )
        time.sleep(0.1)
