"""A person's word before a flip: the form, and which answer counts.

The form has no default in a deciding field: Prefect hands out a form of defaults when a run that crashed while it
waited is retried. The key of the wait comes from a row in the control database, one per attempt, so that the
answer to one attempt cannot open another. Prefect keeps answers as plain text, and an answer may hold a token: what
lies there is deleted as soon as it was read, before it is judged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

import httpx
from prefect import get_run_logger, suspend_flow_run
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound
from prefect.input import RunInput
from prefect.runtime import flow_run
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from data_checks.migration_gate import Gate
from foreshard.approvers import LONGEST_COMMENT, LONGEST_NAME
from foreshard.control.approval_answers import Answer
from foreshard.control.approval_store import ApprovalRecord
from foreshard.control.approver_store import ApproverStore
from foreshard.control.engine import ControlDatabase
from foreshard.control.plan_store import PlanStore
from foreshard.errors import AnswerRefused, ApprovalRequired
from foreshard.markdown import plain
from foreshard.migration import approval_policy
from foreshard.migration.lifecycle import Stage
from foreshard.migration.runner import Runner, Step
from foreshard.settings import Settings
from tasks import approval_markdown

PREFECT_LATER_S = 300.0
"""So much later than the attempt Prefect's own wait ends: by which of the two clocks it expires is then never open."""

RESPONSE = "-response"


class ApprovalForm(RunInput):
    """What a person fills in."""

    # Vouchers of the command line come beside the fields; no page shows a field for them.
    model_config = ConfigDict(extra="ignore", title="Approval")

    decision: Literal["approve", "reject"] = Field(
        description="approve: the flip happens when its checks have passed once more. reject: everything is undone. "
        "The list opens by its arrow."
    )
    approver: str = Field(
        pattern=r"\S",
        max_length=LONGEST_NAME,
        description="Your name; it is kept with the migration for ever.",
    )
    comment: str = Field(
        default="",
        max_length=LONGEST_COMMENT,
        description="Anything that whoever reads this later should know.",
    )


class ApprovalFormWithToken(ApprovalForm):
    """The same where somebody has a token, or everybody needs one."""

    token: SecretStr = Field(
        default_factory=lambda: SecretStr(""),  # a default would be shown as asterisks, and sent
        description="Your approver token, where one is needed. It is compared, and deleted from Prefect at once.",
    )


class _Answered(BaseModel):
    """An answer as it lies in Prefect."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    decision: Literal["approve", "reject"]
    approver: str
    comment: str | None = None
    token: SecretStr | None = None
    voucher: SecretStr | None = None

    def as_answer(self) -> Answer:
        """For the store."""
        token, voucher = (one.get_secret_value() if one else None for one in (self.token, self.voucher))
        return Answer(self.decision == "approve", self.approver, self.comment or "", token, voucher)


@dataclass(frozen=True)
class Question:
    """What a person is asked: the attempt, the text above the form, and whether the form asks for a token."""

    attempt: ApprovalRecord
    description: str
    with_token: bool
    remaining_s: float

    @property
    def what(self) -> str:
        """In a few words."""
        return f"an answer to attempt {self.attempt.id}"


def pause_key(attempt: ApprovalRecord) -> str:
    """Prefect's key of the wait for this form of this attempt."""
    return f"approval-{attempt.id}-{attempt.form}"


def settle(settings: Settings, runner: Runner, step: Step) -> ApprovalRecord | Question | None:
    """What became of the newest attempt for this flip: decided just now, or to be shown again; None: ask anew.

    Of what an earlier run stored only a rejection counts, and an expiry where that ends the migration: an approval
    may have died with its run long ago.
    """
    store, migration = runner.work.approvals, runner.work.lease.migration
    answers = take_answers(_run_id())
    attempt = store.newest(migration, step.flip_no)
    stored = None if attempt is None else answers.pop(pause_key(attempt), None)
    _refuse_others(runner, answers)
    if attempt is None:
        return None
    if stored is None:
        store.expire_overdue("flow", attempt.id)
    elif attempt.flow_run_id != str(_run_id()):
        store.refuse(attempt.id, f"it was given to flow run {_run_id()}, which does not wait for it")
    else:
        try:
            return store.decide(attempt.id, _parsed(runner, attempt, stored), settings.approval.tokens)
        except AnswerRefused as refused:
            get_run_logger().warning("%s", refused)
            return _show_again(settings, runner, attempt, str(refused.details["why"]))
        except ApprovalRequired as late:
            get_run_logger().warning("%s", late)
    attempt = store.newest(migration, step.flip_no)
    if attempt is None or attempt.state == "rejected":
        return attempt
    if attempt.state == "expired" and settings.approval.on_expiry == "abort":
        return attempt
    return None


def _refuse_others(runner: Runner, answers: Mapping[str, object]) -> None:
    """Keeps that answers came to questions that are not asked, or not any more."""
    ours = {attempt.id for attempt in runner.work.approvals.of(runner.work.lease.migration)}
    for key in answers:
        get_run_logger().warning("An answer to %s does not count: it is not what is asked now.", key)
        number = key.split("-")[1]
        if number.isascii() and number.isdigit() and int(number) in ours:
            runner.work.approvals.refuse(
                int(number), f"it was given to {key}, which is not what is asked now"
            )


def ask(control: ControlDatabase, settings: Settings, runner: Runner, step: Step, gate: Gate) -> Question:
    """Begins a new attempt with the evidence at hand; the caller then leaves the runner and waits."""
    work = runner.work
    attempt = work.approvals.ask(
        work.lease,
        step.flip_no,
        gate.id,
        approval_policy.asking_for(work, cutover=step.stage is Stage.CUTOVER),
        settings.approval.timeout_s,
        str(_run_id()),
    )
    runner.suspend("approval")
    timeline = None
    try:
        # Here: most runs ask nobody, and it brings all that draws and forecasts.
        from tasks import plan_artifacts

        plan = plan_artifacts.plan_with_picture(control, settings, runner.record.plan_id)
        timeline = PlanStore(control).get(runner.record.plan_id).plan.timeline
    except Exception as error:  # the question is about the evidence; it can be asked without the picture
        plan = f"The plan cannot be shown: {plain(str(error))}"
    deadlines = approval_markdown.deadlines(settings, work.approvals.remaining_s(attempt.id), timeline)
    description = approval_markdown.question(work, step, attempt, gate.report, plan, deadlines)
    return _question(settings, runner, attempt, description)


def still_covers(runner: Runner, decided: ApprovalRecord, gate: Gate) -> bool:
    """Whether what was approved is what the checks say now; if they warn of more, the approval is superseded."""
    seen = {gate.id: gate.verdict for gate in runner.work.flips.gates(decided.migration)}.get(
        decided.gate_run_id or 0, {}
    )
    known = {_warning(one["table"], one["what"]) for one in seen.get("warnings", ())}
    now = {_warning(one.table, one.what) for one in gate.report.verdict.warnings}
    if now <= known:
        return True
    new = "; ".join(sorted(f"{table}: {what}" for table, what in now - known))
    runner.work.approvals.supersede(
        runner.work.lease, decided.id, f"the checks after it warn of what was not shown: {new}"[:2000]
    )
    get_run_logger().warning("The approval of %s does not cover new warnings: %s", decided.approver, new)
    return False


def wait_for_answer(question: Question) -> None:
    """Suspends this flow run: the process ends here, and the run starts from its top once it is resumed."""
    form = ApprovalFormWithToken if question.with_token else ApprovalForm
    suspend_flow_run(
        wait_for_input=form.with_initial_data(description=question.description),
        timeout=int(max(1.0, question.remaining_s) + PREFECT_LATER_S),
        key=pause_key(question.attempt),
    )


def take_answers(run_id: UUID) -> dict[str, dict[str, Any]]:
    """What the run was answered, by the key of the wait; none of it is in Prefect afterwards."""
    taken = {}
    with get_client(sync_client=True) as client:
        for one in client.filter_flow_run_input(run_id, "suspended-approval-", 200, set()):
            if one.key.endswith(RESPONSE):
                taken[one.key.removeprefix("suspended-").removesuffix(RESPONSE)] = _content(one.value)
                _delete(client, run_id, one.key)
    return taken


def _content(value: str) -> dict[str, Any]:
    try:
        content = json.loads(value)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _run_id() -> UUID:
    return UUID(str(flow_run.id))


def _delete(client: SyncPrefectClient, run_id: UUID, key: str) -> None:
    try:
        client.delete_flow_run_input(run_id, key)
    except ObjectNotFound:
        return
    except httpx.HTTPStatusError as failed:
        if failed.response.status_code != 404:
            raise


def _parsed(runner: Runner, attempt: ApprovalRecord, stored: dict[str, Any]) -> Answer:
    """Raises AnswerRefused, without any of its values, for what is not an answer."""
    try:
        return _Answered(**stored).as_answer()
    except (ValidationError, TypeError) as invalid:
        problems = invalid.errors(include_input=False) if isinstance(invalid, ValidationError) else []
        # A field that is none of ours is not named: a token may be in the wrong place.
        fields = [
            str(one["loc"][0]) for one in problems if one["loc"] and one["loc"][0] in _Answered.model_fields
        ]
        why = f"it is not filled in as asked ({', '.join(fields) or 'other fields'})."
        runner.work.approvals.refuse(attempt.id, why)
        raise AnswerRefused(
            f"The answer to attempt {attempt.id} does not count: {why}",
            remedy="Fill in the form again.",
            why=why,
        ) from None


def _show_again(settings: Settings, runner: Runner, attempt: ApprovalRecord, why: str) -> Question | None:
    """The same question once more, with why; None where Prefect has forgotten its text."""
    key = f"suspended-{pause_key(attempt)}-description"
    with get_client(sync_client=True) as client:
        kept = client.filter_flow_run_input(_run_id(), key, 1, set())
    if not kept:
        return None
    runner.suspend("approval")
    again = runner.work.approvals.show_again(runner.work.lease, attempt.id)
    return _question(settings, runner, again, approval_markdown.refused(str(json.loads(kept[0].value)), why))


def _question(settings: Settings, runner: Runner, attempt: ApprovalRecord, description: str) -> Question:
    work = runner.work
    with_token = settings.approval.tokens == "required" or ApproverStore(work.control).any_live()
    return Question(attempt, description, with_token, work.approvals.remaining_s(attempt.id))


def _warning(table: str, what: str) -> tuple[str, str]:
    """What was looked at, without what was found: that differs from one time to the next."""
    return table, what.partition(": ")[0]
