"""Approvals: which attempt waits for a person, what was answered, and everything that happened to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from foreshard.control import voucher_store
from foreshard.control.approval_answers import Answer, checked, expire_if_late
from foreshard.control.approval_models import Approval, ApprovalEvent
from foreshard.control.approval_trail import EventRecord, asked, events, note, present, supersede
from foreshard.control.engine import ControlDatabase
from foreshard.control.lease import Lease, locked_migration
from foreshard.control.migration_models import GateRun, Migration
from foreshard.errors import ApprovalRequired, ForeshardError, NotFound
from foreshard.migration.approval_policy import Asking
from foreshard.migration.approval_settings import Tokens


@dataclass(frozen=True)
class ApprovalRecord:
    """One attempt to get a person's word. States: pending, approved, rejected, superseded, expired.

    ``evidence_sha256`` is that of the gate run that was shown; ``policy`` and ``why`` say why a person was asked,
    ``way`` how the answer came (ui, cli, api), ``verified`` whether by the approver's token. ``form`` counts how often
    the attempt was shown.
    """

    id: int
    migration: int
    flip_no: int
    gate_run_id: int | None
    evidence_sha256: str
    flow_run_id: str | None
    form: int
    policy: str
    why: str
    state: str
    approver: str
    verified: bool
    way: str
    comment: str
    requested_at: datetime
    expires_at: datetime
    decided_at: datetime | None


class ApprovalStore:
    """Reads and writes approvals. Each change and its line in the audit trail are one transaction."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control

    # -- asking -----------------------------------------------------------------------------------------

    def ask(
        self,
        lease: Lease,
        flip_no: int,
        gate_run_id: int | None,
        asking: Asking,
        timeout_s: float,
        flow_run_id: str | None = None,
    ) -> ApprovalRecord:
        """A new pending attempt that expires in ``timeout_s``; one that waits already is superseded."""
        with self._control.transaction() as session:
            locked_migration(session, lease)
            for earlier in asked(session, lease.migration):
                if not expire_if_late(session, earlier, "flow", present(session)):
                    supersede(session, earlier, "asked again in its place")
            session.flush()  # one pending attempt of a migration at a time
            gate = None if gate_run_id is None else session.get(GateRun, gate_run_id)
            row = Approval(
                migration_id=lease.migration, flip_no=flip_no, gate_run_id=gate_run_id,
                evidence_sha256="" if gate is None else gate.evidence_sha256, flow_run_id=flow_run_id,
                policy=asking.policy, why=asking.why,
                expires_at=func.clock_timestamp() + timedelta(seconds=timeout_s),
            )  # fmt: skip
            session.add(row)
            session.flush()
            session.refresh(row)
            note(session, row, "asked", "flow", why=row.why)
            return _approval(row)

    def show_again(self, lease: Lease, attempt: int) -> ApprovalRecord:
        """The same attempt with the number of its next form."""
        with self._control.transaction() as session:
            locked_migration(session, lease)
            row = _locked(session, attempt)
            row.form += 1
            return _approval(row)

    def supersede(self, lease: Lease, attempt: int, why: str) -> None:
        """An approval that does not count any more, since what it was given on has changed."""
        with self._control.transaction() as session:
            locked_migration(session, lease)
            supersede(session, _locked(session, attempt), why)

    def not_asked(self, lease: Lease, flip_no: int, asking: Asking) -> None:
        """Keeps that nobody is asked about this flip, and why; once."""
        with self._control.transaction() as session:
            locked_migration(session, lease)
            session.execute(
                insert(ApprovalEvent)
                .values(
                    migration_id=lease.migration,
                    flip_no=flip_no,
                    event="not_asked",
                    way="flow",
                    why=asking.why,
                )
                .on_conflict_do_nothing()
            )

    # -- answering --------------------------------------------------------------------------------------

    def decide(self, attempt: int, answer: Answer, tokens: Tokens = "optional") -> ApprovalRecord:
        """Stores a person's answer. Counts once, on a pending attempt, in time, from who may give it.

        Raises:
            NotFound: no such attempt.
            AnswerRefused: name, token or voucher do not do; the attempt stands as it was.
            ApprovalRequired: the attempt is decided, superseded or expired.
        """
        with self._control.transaction() as session:
            outcome = self._judged(session, _locked(session, attempt), answer, tokens)
        if isinstance(outcome, ForeshardError):  # not inside: a refusal is kept
            raise outcome
        return outcome

    def voucher(self, attempt: int, answer: Answer, tokens: Tokens = "optional") -> tuple[str, bool]:
        """Checks an answer as `decide` does, and gives a voucher for it that counts once, for some minutes.

        Also says whether a token proved it. Raises as `decide`.
        """
        with self._control.transaction() as session:
            row = _locked(session, attempt)
            found = checked(session, row, answer, tokens, present(session))
            if not isinstance(found, ForeshardError):
                given, proof = found
                voucher = voucher_store.issue(
                    session, row.id, approve=given.approve, approver=given.approver,
                    approver_id=proof.approver_id, comment=given.comment, way=given.way,
                )  # fmt: skip
        if isinstance(found, ForeshardError):
            raise found
        return voucher, proof.approver_id is not None

    def refuse(self, attempt: int, why: str, approver: str = "", way: str = "ui") -> None:
        """Keeps that something came as an answer that is none."""
        with self._control.transaction() as session:
            note(session, _locked(session, attempt), "refused", way, approver=approver, why=why)

    def expire_overdue(self, way: str, attempt: int | None = None) -> list[ApprovalRecord]:
        """Ends pending attempts (or just ``attempt``) whose time is over, and returns them."""
        query = select(Approval.id).where(
            Approval.state == "pending", Approval.expires_at <= func.clock_timestamp()
        )
        if attempt is not None:
            query = query.where(Approval.id == attempt)
        with self._control.transaction() as session:
            overdue = session.scalars(query.order_by(Approval.id)).all()
        expired = []
        for one in overdue:
            with self._control.transaction() as session:
                row = _locked(session, one)
                if expire_if_late(session, row, way, present(session)):
                    expired.append(_approval(row))
        return expired

    # -- reading ----------------------------------------------------------------------------------------

    def newest(self, migration_id: int, flip_no: int | None = None) -> ApprovalRecord | None:
        """The newest attempt for this flip, or of the migration."""
        query = select(Approval).where(Approval.migration_id == migration_id)
        if flip_no is not None:
            query = query.where(Approval.flip_no == flip_no)
        with self._control.transaction() as session:
            row = session.scalar(query.order_by(Approval.id.desc()).limit(1))
            return None if row is None else _approval(row)

    def of(self, migration_id: int) -> Sequence[ApprovalRecord]:
        """All attempts of a migration, in order."""
        with self._control.transaction() as session:
            rows = session.scalars(
                select(Approval).where(Approval.migration_id == migration_id).order_by(Approval.id)
            )
            return [_approval(row) for row in rows]

    def remaining_s(self, attempt: int) -> float:
        """Seconds until the attempt expires, by the control database's clock; negative afterwards."""
        with self._control.transaction() as session:
            row = session.get_one(Approval, attempt)
            return (row.expires_at - present(session)).total_seconds()

    def events(self, migration_id: int | None = None, limit: int | None = None) -> list[EventRecord]:
        """The audit trail of one migration or of all, oldest first; the newest ``limit`` lines of it."""
        with self._control.transaction() as session:
            return events(session, migration_id, limit)

    def require(self, migration_id: int, flip_no: int) -> ApprovalRecord:
        """The newest attempt for exactly this flip, if a person approved it in time.

        Raises:
            ApprovalRequired: nobody did.
        """
        newest = self.newest(migration_id, flip_no)
        if (
            newest is None
            or newest.state != "approved"
            or newest.decided_at is None
            or newest.decided_at >= newest.expires_at
        ):
            raise ApprovalRequired(
                f"Flip {flip_no} of migration {migration_id} is not approved.",
                remedy="Approve it in the Prefect UI or by `foreshard approve`.",
                migration=migration_id,
                flip=flip_no,
            )
        return newest

    # -- inside -----------------------------------------------------------------------------------------

    @staticmethod
    def _judged(
        session: Session, row: Approval, answer: Answer, tokens: Tokens
    ) -> ApprovalRecord | ForeshardError:
        now = present(session)
        found = checked(session, row, answer, tokens, now)
        if isinstance(found, ForeshardError):
            return found
        given, proof = found
        row.state = "approved" if given.approve else "rejected"
        row.approver, row.comment, row.way = given.approver, given.comment, given.way
        row.verified = proof.approver_id is not None
        row.decided_at = now
        note(
            session, row, row.state, given.way, approver=given.approver, approver_id=proof.approver_id,
            comment=given.comment,
        )  # fmt: skip
        return _approval(row)


def _locked(session: Session, attempt: int) -> Approval:
    migration = session.scalar(select(Approval.migration_id).where(Approval.id == attempt))
    if migration is None:
        raise NotFound(f"There is no approval attempt {attempt}.")
    # The line that follows refers to it. A runner locks the two in this order, and else each would wait for the other.
    session.execute(
        select(Migration.id).where(Migration.id == migration).with_for_update(read=True, key_share=True)
    )
    return session.get_one(Approval, attempt, with_for_update=True)


def _approval(row: Approval) -> ApprovalRecord:
    return ApprovalRecord(
        row.id, row.migration_id, row.flip_no, row.gate_run_id, row.evidence_sha256, row.flow_run_id, row.form,
        row.policy, row.why, row.state, row.approver, row.verified, row.way, row.comment, row.requested_at,
        row.expires_at, row.decided_at,
    )  # fmt: skip
