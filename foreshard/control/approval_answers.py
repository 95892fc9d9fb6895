"""Whether an answer to an attempt counts: in time, the first, from who may give it. What does not is kept as well."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.orm import Session

from foreshard.approvers import approver_name, comment_text
from foreshard.control import voucher_store
from foreshard.control.approval_models import Approval
from foreshard.control.approval_trail import note
from foreshard.control.approver_store import Proof, prove
from foreshard.errors import AnswerRefused, ApprovalRequired, ForeshardError, InvalidInput
from foreshard.migration.approval_settings import Tokens


@dataclass(frozen=True)
class Answer:
    """What a person said. ``way``: ui, unless a voucher says another."""

    approve: bool
    approver: str
    comment: str = ""
    token: str | None = None
    voucher: str | None = None
    way: str = "ui"


def checked(
    session: Session, row: Approval, answer: Answer, tokens: Tokens, now: datetime
) -> tuple[Answer, Proof] | ForeshardError:
    """The answer as it counts and who proved it; or why it does not, which is kept."""
    try:
        name, comment = approver_name(answer.approver), comment_text(answer.comment)
    except InvalidInput as wrong:
        note(session, row, "refused", answer.way, why=wrong.message)
        return _refused(row, wrong.message)
    given = Answer(answer.approve, name, comment, way=answer.way)
    expire_if_late(session, row, "flow", now)
    if row.state != "pending":
        note(
            session, row, "refused", given.way, approver=name, comment=comment,
            why=f"the attempt was {row.state} already",
        )  # fmt: skip
        by = f" by {row.approver}" if row.approver else ""
        return ApprovalRequired(
            f"Approval attempt {row.id} is {row.state} already{by}.",
            remedy="`foreshard status` shows what waits now.",
            attempt=row.id,
            state=row.state,
        )
    if answer.voucher:
        redeemed = voucher_store.redeem(session, answer.voucher, row.id, tokens)
        if isinstance(redeemed, str):
            return _refusal(session, row, given, Proof(refusal=redeemed))
        # What was checked counts, not what travelled beside it.
        given = Answer(redeemed.approve, redeemed.approver, redeemed.comment, way=redeemed.way)
        return given, Proof(redeemed.approver_id)
    proof = prove(session, row.id, name, answer.token, tokens)
    if proof.refusal is not None:
        return _refusal(session, row, given, proof)
    return replace(given, approver=proof.name or name), proof


def _refusal(session: Session, row: Approval, given: Answer, proof: Proof) -> AnswerRefused:
    assert proof.refusal is not None
    note(
        session, row, "wrong_token" if proof.wrong_token else "refused", given.way, approver=given.approver,
        approver_id=proof.approver_id, comment=given.comment, why=proof.refusal, verified=False,
    )  # fmt: skip
    return _refused(row, proof.refusal)


def _refused(row: Approval, why: str) -> AnswerRefused:
    return AnswerRefused(
        f"The answer to attempt {row.id} of migration {row.migration_id} does not count: {why.rstrip('.')}.",
        remedy="Nothing was undone and the question stands: correct the answer and give it again.",
        attempt=row.id,
        why=why,
    )


def expire_if_late(session: Session, row: Approval, way: str, now: datetime) -> bool:
    """Ends a pending attempt whose time is over; says whether it did."""
    if row.state != "pending" or now < row.expires_at:
        return False
    row.state = "expired"
    note(session, row, "expired", way, why=f"nobody had answered by {row.expires_at:%Y-%m-%d %H:%M:%S} UTC")
    return True
