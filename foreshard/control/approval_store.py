"""Approvals: which attempt waits for a person, what was answered, and everything that happened to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from foreshard.approvers import approver_name, comment_text
from foreshard.control import voucher_store
from foreshard.control.approval_models import Approval, ApprovalEvent
from foreshard.control.approver_store import Proof, prove
from foreshard.control.engine import ControlDatabase
from foreshard.control.lease import Lease, locked_migration
from foreshard.control.migration_models import GateRun
from foreshard.errors import AnswerRefused, ApprovalRequired, ForeshardError, InvalidInput, NotFound
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


@dataclass(frozen=True)
class Answer:
    """What a person said. ``way``: ui, unless a voucher says another."""

    approve: bool
    approver: str
    comment: str = ""
    token: str | None = None
    voucher: str | None = None
    way: str = "ui"


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
            for earlier in session.scalars(
                select(Approval)
                .where(Approval.migration_id == lease.migration, Approval.state == "pending")
                .with_for_update()
            ):
                if not _expire_if_late(session, earlier, "flow", _now(session)):
                    _supersede(session, earlier, "asked again in its place")
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
            _note(session, row, "asked", "flow", why=row.why)
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
            _supersede(session, _locked(session, attempt), why)

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
            checked = _checked(session, row, answer, tokens, _now(session))
            if not isinstance(checked, ForeshardError):
                given, proof = checked
                voucher = voucher_store.issue(
                    session, row.id, approve=given.approve, approver=given.approver,
                    approver_id=proof.approver_id, comment=given.comment, way=given.way,
                )  # fmt: skip
        if isinstance(checked, ForeshardError):
            raise checked
        return voucher, proof.approver_id is not None

    def refuse(self, attempt: int, why: str, approver: str = "", way: str = "ui") -> None:
        """Keeps that something came as an answer that is none."""
        with self._control.transaction() as session:
            _note(session, _locked(session, attempt), "refused", way, approver=approver, why=why)

    def expire_overdue(self, way: str, attempt: int | None = None) -> list[ApprovalRecord]:
        """Ends pending attempts (or just ``attempt``) whose time is over, and returns them."""
        query = select(Approval).where(
            Approval.state == "pending", Approval.expires_at <= func.clock_timestamp()
        )
        if attempt is not None:
            query = query.where(Approval.id == attempt)
        with self._control.transaction() as session:
            rows = session.scalars(query.order_by(Approval.id).with_for_update()).all()
            return [_approval(row) for row in rows if _expire_if_late(session, row, way, _now(session))]

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
            return (row.expires_at - _now(session)).total_seconds()

    def events(self, migration_id: int | None = None, limit: int | None = None) -> list[EventRecord]:
        """The audit trail of one migration or of all, oldest first; the newest ``limit`` lines of it."""
        query = select(ApprovalEvent).order_by(ApprovalEvent.id.desc())
        if migration_id is not None:
            query = query.where(ApprovalEvent.migration_id == migration_id)
        with self._control.transaction() as session:
            return [_event(row) for row in session.scalars(query.limit(limit))][::-1]

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
        now = _now(session)
        checked = _checked(session, row, answer, tokens, now)
        if isinstance(checked, ForeshardError):
            return checked
        given, proof = checked
        row.state = "approved" if given.approve else "rejected"
        row.approver, row.comment, row.way = given.approver, given.comment, given.way
        row.verified = proof.approver_id is not None
        row.decided_at = now
        _note(
            session, row, row.state, given.way, approver=given.approver, approver_id=proof.approver_id,
            comment=given.comment,
        )  # fmt: skip
        return _approval(row)


def _checked(
    session: Session, row: Approval, answer: Answer, tokens: Tokens, now: datetime
) -> tuple[Answer, Proof] | ForeshardError:
    """The answer as it counts and who proved it; or why it does not, which is kept."""
    try:
        name, comment = approver_name(answer.approver), comment_text(answer.comment)
    except InvalidInput as wrong:
        _note(session, row, "refused", answer.way, why=wrong.message)
        return _refused(row, wrong.message)
    given = Answer(answer.approve, name, comment, way=answer.way)
    _expire_if_late(session, row, "flow", now)
    if row.state != "pending":
        _note(
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
    _note(
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


def _locked(session: Session, attempt: int) -> Approval:
    row = session.get(Approval, attempt, with_for_update=True)
    if row is None:
        raise NotFound(f"There is no approval attempt {attempt}.")
    return row


def _now(session: Session) -> datetime:
    now: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
    return now


def _expire_if_late(session: Session, row: Approval, way: str, now: datetime) -> bool:
    if row.state != "pending" or now < row.expires_at:
        return False
    row.state = "expired"
    _note(session, row, "expired", way, why=f"nobody had answered by {row.expires_at:%Y-%m-%d %H:%M:%S} UTC")
    return True


def _supersede(session: Session, row: Approval, why: str) -> None:
    row.state = "superseded"
    _note(session, row, "superseded", "flow", why=why)


def _note(
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
    session.add(
        ApprovalEvent(
            migration_id=row.migration_id, flip_no=row.flip_no, approval_id=row.id, event=event, way=way,
            approver=approver, approver_id=approver_id, comment=comment, why=why,
            verified=approver_id is not None if verified is None else verified,
            gate_run_id=row.gate_run_id, evidence_sha256=row.evidence_sha256,
        )
    )  # fmt: skip
    session.flush()  # in the order in which it happened


def _approval(row: Approval) -> ApprovalRecord:
    return ApprovalRecord(
        row.id, row.migration_id, row.flip_no, row.gate_run_id, row.evidence_sha256, row.flow_run_id, row.form,
        row.policy, row.why, row.state, row.approver, row.verified, row.way, row.comment, row.requested_at,
        row.expires_at, row.decided_at,
    )  # fmt: skip


def _event(row: ApprovalEvent) -> EventRecord:
    return EventRecord(
        row.id, row.at, row.migration_id, row.flip_no, row.approval_id, row.event, row.way, row.approver,
        row.verified, row.comment, row.why, row.gate_run_id, row.evidence_sha256,
    )  # fmt: skip
