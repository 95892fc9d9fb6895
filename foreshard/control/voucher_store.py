"""Vouchers: what the command line sends through Prefect in place of a token.

Prefect keeps a run's input as plain text. A voucher is good for one answer to one attempt, once, for some minutes.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from foreshard.approvers import digest, new_voucher
from foreshard.control.approval_models import ApprovalVoucher, Approver
from foreshard.migration.approval_settings import Tokens

LASTS_S = 600.0
"""A run that was resumed begins within seconds where something serves it."""


def issue(
    session: Session,
    attempt: int,
    *,
    approve: bool,
    approver: str,
    approver_id: int | None,
    comment: str,
    way: str,
) -> str:
    """A new voucher for this answer; a hash of it is stored."""
    voucher = new_voucher()
    session.add(
        ApprovalVoucher(
            approval_id=attempt, sha256=digest(voucher), approve=approve, approver=approver,
            approver_id=approver_id, comment=comment, way=way,
            expires_at=func.clock_timestamp() + timedelta(seconds=LASTS_S),
        )
    )  # fmt: skip
    return voucher


def redeem(session: Session, voucher: str, attempt: int, tokens: Tokens) -> ApprovalVoucher | str:
    """The answer that was checked when the voucher was made, now used up; or why it does not count."""
    row = session.scalar(
        select(ApprovalVoucher).where(ApprovalVoucher.sha256 == digest(voucher)).with_for_update()
    )
    now = session.scalar(select(func.clock_timestamp()))
    assert now is not None
    if row is None:
        return "its voucher was never made here."
    if row.approval_id != attempt:
        return f"its voucher is for attempt {row.approval_id}."
    if row.used_at is not None:
        return "its voucher was used before."
    row.used_at = now  # whatever else is wrong with it
    if row.expires_at <= now:
        return f"its voucher was good until {row.expires_at:%H:%M:%S} UTC."
    if row.approver_id is None:
        if tokens == "required":
            return "its voucher was made without a token, and one is required now."
        return row
    who = session.get(Approver, row.approver_id)
    if who is None or who.revoked_at is not None:
        return f"{row.approver} is an approver no more: the token was revoked."
    return row
