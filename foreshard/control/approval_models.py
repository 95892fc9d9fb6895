"""The tables of the control database about approvals: attempts, everything that happened to them, and approvers."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, LargeBinary, func, text
from sqlalchemy.orm import Mapped, mapped_column

from foreshard.control.models import Base, one_of

APPROVAL_STATES = ["pending", "approved", "rejected", "superseded", "expired"]
WAYS = ["ui", "cli", "api", "flow", "janitor"]
EVENTS = ["asked", "approved", "rejected", "refused", "wrong_token", "superseded", "expired", "not_asked"]


class Approval(Base):
    """One attempt to get a person's word for one flip. Decided once; a new attempt is a new row."""

    __tablename__ = "approvals"
    __table_args__ = (
        CheckConstraint(one_of("state", APPROVAL_STATES), name="state"),
        CheckConstraint(
            "state NOT IN ('approved', 'rejected') OR (decided_at IS NOT NULL AND approver <> '')",
            name="decided",
        ),
        CheckConstraint("state <> 'pending' OR decided_at IS NULL", name="undecided"),
        CheckConstraint("decided_at < expires_at", name="in_time"),
        Index(
            "uq_approvals_pending", "migration_id", unique=True, postgresql_where=text("state = 'pending'")
        ),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    migration_id: Mapped[int] = mapped_column(ForeignKey("migrations.id"), index=True)
    flip_no: Mapped[int] = mapped_column(BigInteger)
    gate_run_id: Mapped[int | None] = mapped_column(ForeignKey("gate_runs.id"))
    evidence_sha256: Mapped[str] = mapped_column(server_default=text("''"))
    """Of the evidence that was shown."""
    flow_run_id: Mapped[str | None]
    """The run that waits: the answer to another one does not count."""
    form: Mapped[int] = mapped_column(default=1, server_default=text("1"))
    """How often this attempt has been shown: once more after each answer that was refused."""
    policy: Mapped[str] = mapped_column(server_default=text("''"))
    why: Mapped[str] = mapped_column(server_default=text("''"))
    """Why a person is asked."""
    state: Mapped[str] = mapped_column(default="pending")
    approver: Mapped[str] = mapped_column(default="")
    verified: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    """By a token; else the name is only what was said."""
    way: Mapped[str] = mapped_column(server_default=text("''"))
    comment: Mapped[str] = mapped_column(default="")
    requested_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    expires_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]


class Approver(Base):
    """A person who proves an answer by a token. Never deleted: what they decided names them."""

    __tablename__ = "approvers"
    __table_args__ = (
        CheckConstraint("name <> '' AND name_key <> ''", name="name"),
        CheckConstraint("octet_length(token_sha256) = 32", name="token"),
        Index("uq_approvers_live", "name_key", unique=True, postgresql_where=text("revoked_at IS NULL")),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    name_key: Mapped[str]
    token_sha256: Mapped[bytes] = mapped_column(LargeBinary)
    added_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    revoked_at: Mapped[datetime | None]


class ApprovalVoucher(Base):
    """One answer that the command line checked, on its way through Prefect: counts once, for one attempt."""

    __tablename__ = "approval_vouchers"
    __table_args__ = (
        CheckConstraint(one_of("way", ["cli", "api"]), name="way"),
        CheckConstraint("octet_length(sha256) = 32", name="sha256"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    approval_id: Mapped[int] = mapped_column(ForeignKey("approvals.id"), index=True)
    sha256: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    approve: Mapped[bool]
    approver: Mapped[str]
    approver_id: Mapped[int | None] = mapped_column(ForeignKey("approvers.id"))
    """Whose token was checked; None: nobody's."""
    comment: Mapped[str]
    way: Mapped[str]
    made_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class ApprovalEvent(Base):
    """What happened to an attempt, by whom. Triggers set the time, and refuse every later change."""

    __tablename__ = "approval_events"
    __table_args__ = (
        CheckConstraint(one_of("event", EVENTS), name="event"),
        CheckConstraint(one_of("way", WAYS), name="way"),
        CheckConstraint("(event = 'not_asked') = (approval_id IS NULL)", name="attempt"),
        Index(
            "uq_approval_events_not_asked",
            "migration_id",
            "flip_no",
            unique=True,
            postgresql_where=text("event = 'not_asked'"),
        ),
    )
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    migration_id: Mapped[int] = mapped_column(ForeignKey("migrations.id"), index=True)
    flip_no: Mapped[int] = mapped_column(BigInteger)
    approval_id: Mapped[int | None] = mapped_column(ForeignKey("approvals.id"), index=True)
    event: Mapped[str]
    way: Mapped[str]
    approver: Mapped[str] = mapped_column(server_default=text("''"))
    approver_id: Mapped[int | None] = mapped_column(ForeignKey("approvers.id"))
    verified: Mapped[bool] = mapped_column(server_default=text("false"))
    comment: Mapped[str] = mapped_column(server_default=text("''"))
    why: Mapped[str] = mapped_column(server_default=text("''"))
    gate_run_id: Mapped[int | None] = mapped_column(ForeignKey("gate_runs.id"))
    evidence_sha256: Mapped[str] = mapped_column(server_default=text("''"))
