"""People who prove their answers by a token: a hash of it is kept, see `foreshard.approvers`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from foreshard.approvers import approver_name, digest, fits, name_key, new_token
from foreshard.control.approval_models import ApprovalEvent, Approver
from foreshard.control.engine import ControlDatabase
from foreshard.errors import InvalidInput, NotFound
from foreshard.migration.approval_settings import Tokens

WRONG_TOKENS = 5
"""So many of one approver, and an attempt takes no more answers in that name."""


@dataclass(frozen=True)
class ApproverRecord:
    """One approver. A name that was revoked and added again is two of them."""

    id: int
    name: str
    added_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True)
class Proof:
    """What became of a name and a token: whose token it is, or in ``refusal`` why the answer does not count."""

    approver_id: int | None = None
    name: str | None = None
    refusal: str | None = None
    wrong_token: bool = False


class ApproverStore:
    """Adds, lists and revokes approvers."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control

    def add(self, name: str) -> tuple[ApproverRecord, str]:
        """A new approver and the token, which is told this once.

        Raises:
            InvalidInput: the name cannot be used, or somebody of that name has a token.
        """
        name, token = approver_name(name, "NAME"), new_token()
        row = Approver(name=name, name_key=name_key(name), token_sha256=digest(token))
        try:
            with self._control.transaction() as session:
                session.add(row)
                session.flush()
                session.refresh(row)
                return _record(row), token
        except IntegrityError:
            raise InvalidInput(
                "NAME",
                f"{name} has a token already.",
                remedy=f"For a new one: `foreshard approver revoke '{name}'`, then add again.",
            ) from None

    def revoke(self, name: str) -> ApproverRecord:
        """From now on nothing is approved with that approver's token, vouchers under way included.

        Raises:
            NotFound: nobody of that name has a token.
        """
        with self._control.transaction() as session:
            row = live(session, name_key(approver_name(name, "NAME")), lock=True)
            if row is None:
                raise NotFound(
                    f"No approver {name!r} has a token.", remedy="`foreshard approver list` shows who has."
                )
            row.revoked_at = session.scalar(select(func.clock_timestamp()))
            return _record(row)

    def all(self) -> list[ApproverRecord]:
        """All approvers, revoked ones too, by name."""
        with self._control.transaction() as session:
            return [
                _record(row) for row in session.scalars(select(Approver).order_by(Approver.name, Approver.id))
            ]

    def any_live(self) -> bool:
        """Whether anybody has a token that counts."""
        with self._control.transaction() as session:
            return (
                session.scalar(select(Approver.id).where(Approver.revoked_at.is_(None)).limit(1)) is not None
            )

    def needs_token(self, name: str, tokens: Tokens) -> bool:
        """Whether an answer in that name must carry a token."""
        with self._control.transaction() as session:
            return tokens == "required" or live(session, name_key(name)) is not None


def live(session: Session, key: str, *, lock: bool = False) -> Approver | None:
    """Who answers to that name now."""
    query = select(Approver).where(Approver.name_key == key, Approver.revoked_at.is_(None))
    return session.scalar(query.with_for_update() if lock else query)


def prove(session: Session, attempt: int, name: str, token: str | None, tokens: Tokens) -> Proof:
    """Whether the token makes the answer to ``attempt`` that of ``name``; the caller holds the attempt's row locked."""
    key = name_key(name)
    who = live(session, key)
    if who is None:
        if session.scalar(select(Approver.id).where(Approver.name_key == key).limit(1)) is not None:
            return Proof(refusal=f"{name} is an approver no more: the token was revoked.")
        if tokens == "required":
            return Proof(refusal=f'{name} is not an approver, and approval.tokens = "required".')
        if token:
            return Proof(refusal=f"{name} has no token that one could be compared with; is the name right?")
        return Proof()
    wrong = session.scalar(
        select(func.count())
        .select_from(ApprovalEvent)
        .where(
            ApprovalEvent.approval_id == attempt,
            ApprovalEvent.approver_id == who.id,
            ApprovalEvent.event == "wrong_token",
        )
    )
    if (wrong or 0) >= WRONG_TOKENS:
        return Proof(
            who.id,
            who.name,
            f"{wrong} wrong tokens were given in the name of {who.name}: this attempt takes no answer of theirs any"
            " more. Another approver may answer.",
        )
    if not token:
        return Proof(who.id, who.name, f"{who.name} has a token, and the answer came without it.")
    if not fits(token, who.token_sha256):
        return Proof(who.id, who.name, f"that is not the token of {who.name}.", wrong_token=True)
    return Proof(who.id, who.name)


def _record(row: Approver) -> ApproverRecord:
    return ApproverRecord(row.id, row.name, row.added_at, row.revoked_at)
