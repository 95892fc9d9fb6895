"""A person's word before a flip: the form, and which answer counts.

The form has no default in a deciding field: Prefect hands out a form of defaults when a run that crashed while it
waited is retried. The key of the wait comes from a row in the control database, one per attempt, so that the
answer to one attempt cannot open another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

from prefect import get_run_logger, suspend_flow_run
from prefect.input import RunInput, read_flow_run_input
from prefect.input.run_input import keyset_from_paused_state
from prefect.states import Suspended
from pydantic import Field, ValidationError

from data_checks.migration_gate import Gate
from foreshard.control.engine import ControlDatabase
from foreshard.control.flip_store import ApprovalRecord
from foreshard.migration.runner import Runner, Step
from foreshard.settings import Settings
from tasks import reports


class ApprovalForm(RunInput):
    """What a person fills in."""

    decision: Literal["approve", "reject"] = Field(
        description="approve: the flip happens when its checks have passed once more. reject: everything is undone."
    )
    approver: str = Field(
        pattern=r"\S", max_length=200, description="Your name; it is kept with the migration for ever."
    )
    comment: str = Field(
        default="", max_length=2000, description="Anything that whoever reads this later should know."
    )


def pause_key(approval_id: int) -> str:
    """Prefect's key of the wait for this attempt."""
    return f"approval-{approval_id}"


def stored_answer(approval_id: int) -> ApprovalForm | None:
    """The valid answer that this flow run was resumed with for exactly this attempt, or None."""
    keys = keyset_from_paused_state(Suspended(pause_key=pause_key(approval_id)))
    content = cast(dict[str, Any] | None, read_flow_run_input(keys["response"]))
    if content is None:
        return None
    try:
        return ApprovalForm(**content)
    except (ValidationError, TypeError):
        get_run_logger().warning("The answer to approval attempt %s is not valid; asking again.", approval_id)
        return None


@dataclass(frozen=True)
class Question:
    """What a person is asked: the attempt's number and the text above the form."""

    attempt: int
    description: str


def settle(runner: Runner, step: Step) -> ApprovalRecord | None:
    """The decision on the pending attempt for this flip, stored now; None if a person has yet to be asked.

    A decision that an earlier run stored does not count: that run may have died with it long ago.
    """
    flips = runner.work.flips
    pending = flips.newest_approval(runner.work.lease.migration, step.flip_no)
    if pending is None or pending.state != "pending":
        return None
    answer = stored_answer(pending.id)
    if answer is None:
        return None
    approve = answer.decision == "approve"
    return flips.decide(pending.id, approve=approve, approver=answer.approver, comment=answer.comment)


def ask(control: ControlDatabase, settings: Settings, runner: Runner, step: Step, gate: Gate) -> Question:
    """Begins a new attempt with the evidence at hand; the caller then leaves the runner and waits."""
    attempt = runner.work.flips.ask_approval(runner.work.lease, step.flip_no, gate.id)
    runner.suspend("approval")
    try:
        # Here: most runs ask nobody, and it brings all that draws and forecasts.
        from tasks import plan_artifacts

        plan = plan_artifacts.plan_with_picture(control, settings, runner.record.plan_id)
    except Exception as error:  # the question is about the evidence; it can be asked without the picture
        plan = f"The plan cannot be shown: {error}"
    return Question(attempt, reports.approval_markdown(runner.work, step, gate.report, plan))


def wait_for_answer(question: Question, timeout_s: float) -> None:
    """Suspends this flow run: the process ends here, and the run starts from its top once it is resumed."""
    suspend_flow_run(
        wait_for_input=ApprovalForm.with_initial_data(description=question.description),
        timeout=int(timeout_s),
        key=pause_key(question.attempt),
    )
