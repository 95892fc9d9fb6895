"""approvals expire, and say why they were asked; approvers with tokens; an audit table that only grows"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_NOW = sa.text("clock_timestamp()")
_EMPTY = sa.text("''")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    for column in (
        sa.Column("evidence_sha256", sa.String(), server_default=_EMPTY, nullable=False),
        sa.Column("flow_run_id", sa.String(), nullable=True),
        sa.Column("form", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("policy", sa.String(), server_default=_EMPTY, nullable=False),
        sa.Column("why", sa.String(), server_default=_EMPTY, nullable=False),
        sa.Column("verified", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("way", sa.String(), server_default=_EMPTY, nullable=False),
        sa.Column("expires_at", _TIME, nullable=True),
    ):
        op.add_column("approvals", column)
    # They had no end of their own: those that wait get a day from now, which is what Prefect gave them.
    op.execute(
        "UPDATE approvals SET expires_at = greatest(clock_timestamp(), decided_at) + interval '1 day',"
        " evidence_sha256 = coalesce((SELECT evidence_sha256 FROM gate_runs g WHERE g.id = gate_run_id), '')"
    )
    op.alter_column("approvals", "expires_at", nullable=False)
    for name in ("ck_approvals_state", "ck_approvals_decided"):
        op.drop_constraint(op.f(name), "approvals", type_="check")
    for name, condition in (
        ("state", "state IN ('pending', 'approved', 'rejected', 'superseded', 'expired')"),
        ("decided", "state NOT IN ('approved', 'rejected') OR (decided_at IS NOT NULL AND approver <> '')"),
        ("undecided", "state <> 'pending' OR decided_at IS NULL"),
        ("in_time", "decided_at < expires_at"),
    ):
        op.create_check_constraint(op.f(f"ck_approvals_{name}"), "approvals", condition)
    op.execute(
        "UPDATE approvals a SET state = 'superseded' WHERE state = 'pending' AND EXISTS"
        " (SELECT FROM approvals b WHERE b.migration_id = a.migration_id AND b.state = 'pending' AND b.id > a.id)"
    )
    op.create_index(
        "uq_approvals_pending",
        "approvals",
        ["migration_id"],
        unique=True,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_table(
        "approvers",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("name_key", sa.String(), nullable=False),
        sa.Column("token_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("added_at", _TIME, server_default=_NOW, nullable=False),
        sa.Column("revoked_at", _TIME, nullable=True),
        sa.CheckConstraint("name <> '' AND name_key <> ''", name=op.f("ck_approvers_name")),
        sa.CheckConstraint("octet_length(token_sha256) = 32", name=op.f("ck_approvers_token")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_approvers")),
    )
    op.create_index(
        "uq_approvers_live",
        "approvers",
        ["name_key"],
        unique=True,
        postgresql_where=sa.text("revoked_at IS NULL"),
    )
    op.create_table(
        "approval_vouchers",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("approval_id", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("approve", sa.Boolean(), nullable=False),
        sa.Column("approver", sa.String(), nullable=False),
        sa.Column("approver_id", sa.Integer(), nullable=True),
        sa.Column("comment", sa.String(), nullable=False),
        sa.Column("way", sa.String(), nullable=False),
        sa.Column("made_at", _TIME, server_default=_NOW, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("used_at", _TIME, nullable=True),
        sa.CheckConstraint("way IN ('cli', 'api')", name=op.f("ck_approval_vouchers_way")),
        sa.CheckConstraint("octet_length(sha256) = 32", name=op.f("ck_approval_vouchers_sha256")),
        sa.ForeignKeyConstraint(
            ["approval_id"], ["approvals.id"], name=op.f("fk_approval_vouchers_approval_id")
        ),
        sa.ForeignKeyConstraint(
            ["approver_id"], ["approvers.id"], name=op.f("fk_approval_vouchers_approver_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_approval_vouchers")),
        sa.UniqueConstraint("sha256", name=op.f("uq_approval_vouchers_sha256")),
    )
    op.create_index(op.f("ix_approval_vouchers_approval_id"), "approval_vouchers", ["approval_id"])
    op.create_table(
        "approval_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", _TIME, server_default=_NOW, nullable=False),
        sa.Column("migration_id", sa.Integer(), nullable=False),
        sa.Column("flip_no", sa.BigInteger(), nullable=False),
        sa.Column("approval_id", sa.Integer(), nullable=True),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("way", sa.String(), nullable=False),
        sa.Column("approver", sa.String(), server_default=_EMPTY, nullable=False),
        sa.Column("approver_id", sa.Integer(), nullable=True),
        sa.Column("verified", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("comment", sa.String(), server_default=_EMPTY, nullable=False),
        sa.Column("why", sa.String(), server_default=_EMPTY, nullable=False),
        sa.Column("gate_run_id", sa.Integer(), nullable=True),
        sa.Column("evidence_sha256", sa.String(), server_default=_EMPTY, nullable=False),
        sa.CheckConstraint(
            "event IN ('asked', 'approved', 'rejected', 'refused', 'wrong_token', 'superseded', 'expired', 'not_asked')",
            name=op.f("ck_approval_events_event"),
        ),
        sa.CheckConstraint(
            "way IN ('ui', 'cli', 'api', 'flow', 'janitor')", name=op.f("ck_approval_events_way")
        ),
        sa.CheckConstraint(
            "(event = 'not_asked') = (approval_id IS NULL)", name=op.f("ck_approval_events_attempt")
        ),
        sa.ForeignKeyConstraint(
            ["migration_id"], ["migrations.id"], name=op.f("fk_approval_events_migration_id")
        ),
        sa.ForeignKeyConstraint(
            ["approval_id"], ["approvals.id"], name=op.f("fk_approval_events_approval_id")
        ),
        sa.ForeignKeyConstraint(
            ["approver_id"], ["approvers.id"], name=op.f("fk_approval_events_approver_id")
        ),
        sa.ForeignKeyConstraint(
            ["gate_run_id"], ["gate_runs.id"], name=op.f("fk_approval_events_gate_run_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_approval_events")),
    )
    for indexed in ("migration_id", "approval_id"):
        op.create_index(op.f(f"ix_approval_events_{indexed}"), "approval_events", [indexed])
    op.create_index(
        "uq_approval_events_not_asked",
        "approval_events",
        ["migration_id", "flip_no"],
        unique=True,
        postgresql_where=sa.text("event = 'not_asked'"),
    )
    op.execute(
        """
        CREATE FUNCTION approval_events_are_final() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'what happened to an approval is neither changed nor deleted';
        END $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER approval_events_are_final BEFORE UPDATE OR DELETE OR TRUNCATE ON approval_events
        FOR EACH STATEMENT EXECUTE FUNCTION approval_events_are_final()
        """
    )
    op.execute(
        """
        CREATE FUNCTION approval_events_are_now() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            NEW.at := clock_timestamp();
            RETURN NEW;
        END $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER approval_events_are_now BEFORE INSERT ON approval_events
        FOR EACH ROW EXECUTE FUNCTION approval_events_are_now()
        """
    )


def downgrade() -> None:
    for table in ("approval_events", "approval_vouchers", "approvers"):
        op.drop_table(table)
    for function in ("approval_events_are_final", "approval_events_are_now"):
        op.execute(f"DROP FUNCTION {function}()")
    op.drop_index("uq_approvals_pending", table_name="approvals")
    for name in ("state", "decided", "undecided", "in_time"):
        op.drop_constraint(op.f(f"ck_approvals_{name}"), "approvals", type_="check")
    op.execute(
        "UPDATE approvals SET state = 'superseded', decided_at = NULL WHERE state IN ('expired', 'superseded')"
    )
    op.create_check_constraint(
        op.f("ck_approvals_state"), "approvals", "state IN ('pending', 'approved', 'rejected', 'superseded')"
    )
    op.create_check_constraint(
        op.f("ck_approvals_decided"),
        "approvals",
        "(state IN ('approved', 'rejected')) = (decided_at IS NOT NULL AND approver <> '')",
    )
    for name in (
        "evidence_sha256",
        "flow_run_id",
        "form",
        "policy",
        "why",
        "verified",
        "way",
        "expires_at",
    ):
        op.drop_column("approvals", name)
