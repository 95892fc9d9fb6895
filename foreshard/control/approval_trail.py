"""The audit trail of approvals: a line for everything that happens to an attempt, never changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from foreshard.control.approval_models import Approval, ApprovalEvent


@dataclass(frozen=True)
class EventRecord:
    """One line of the audit trail. ``at`` by the control database's clock."""

    id: int
    at: datetime
    migration: int
    flip_no: int
    attempt: int | None
    event: str
    way: str
    approver: str
    verified: bool
    comment: str
    why: str
    gate_run_id: int | None
    evidence_sha256: str


def note(
    session: Session,
    row: Approval,
    event: str,
    way: str,
    *,
    approver: str = "",
    approver_id: int | None = None,
    comment: str = "",
    why: str = "",
    verified: bool | None = None,
) -> None:
    """Adds a line about the attempt in ``row``, in the transaction of what it tells."""
    session.add(
        ApprovalEvent(
            migration_id=row.migration_id, flip_no=row.flip_no, approval_id=row.id, event=event, way=way,
            approver=approver, approver_id=approver_id, comment=comment, why=why,
            verified=approver_id is not None if verified is None else verified,
            gate_run_id=row.gate_run_id, evidence_sha256=row.evidence_sha256,
        )
    )  # fmt: skip
    session.flush()  # in the order in which it happened


def supersede(session: Session, row: Approval, why: str) -> None:
    """Ends an attempt whose answer is not needed, or does not count, any more."""
    row.state = "superseded"
    note(session, row, "superseded", "flow", why=why)


def asked(session: Session, migration_id: int) -> Iterable[Approval]:
    """The attempts of a migration that a person has not answered, locked."""
    pending = select(Approval).where(Approval.migration_id == migration_id, Approval.state == "pending")
    return session.scalars(pending.with_for_update())


def withdraw(session: Session, migration_id: int, why: str) -> None:
    """Supersedes what a person is still asked about a migration: it is not going to happen."""
    for row in asked(session, migration_id):
        supersede(session, row, why)


def events(session: Session, migration_id: int | None, limit: int | None) -> list[EventRecord]:
    """The lines of one migration or of all, oldest first; the newest ``limit`` of them."""
    query = select(ApprovalEvent).order_by(ApprovalEvent.id.desc())
    if migration_id is not None:
        query = query.where(ApprovalEvent.migration_id == migration_id)
    return [_event(row) for row in session.scalars(query.limit(limit))][::-1]


def present(session: Session) -> datetime:
    """The control database's clock."""
    now: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
    return now


def _event(row: ApprovalEvent) -> EventRecord:
    return EventRecord(
        row.id, row.at, row.migration_id, row.flip_no, row.approval_id, row.event, row.way, row.approver,
        row.verified, row.comment, row.why, row.gate_run_id, row.evidence_sha256,
    )  # fmt: skip
