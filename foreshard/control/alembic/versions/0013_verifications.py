"""verifications: what `verify` found; repairs: which rows people had mended"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "verifications",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("migration_id", sa.Integer(), nullable=True),
        sa.Column("bucket", sa.String(), nullable=True),
        sa.Column("made_by", sa.String(), nullable=False),
        sa.Column(
            "begun_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("passed", sa.Boolean(), nullable=True),
        sa.Column("problem", sa.String(), nullable=True),
        sa.Column(
            "findings",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
        ),
        sa.Column(
            "seen", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.CheckConstraint(
            "migration_id IS NOT NULL OR bucket IS NOT NULL", name=op.f("ck_verifications_of_something")
        ),
        sa.CheckConstraint("(finished_at IS NULL) = (passed IS NULL)", name=op.f("ck_verifications_verdict")),
        sa.CheckConstraint("finished_at IS NULL OR problem IS NULL", name=op.f("ck_verifications_problem")),
        sa.ForeignKeyConstraint(
            ["migration_id"], ["migrations.id"], name=op.f("fk_verifications_migration_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_verifications")),
    )
    op.create_index(op.f("ix_verifications_migration_id"), "verifications", ["migration_id"])
    op.create_table(
        "repairs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("migration_id", sa.Integer(), nullable=False),
        sa.Column("said_by", sa.String(), nullable=False),
        sa.Column(
            "begun_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.CheckConstraint("said_by <> ''", name=op.f("ck_repairs_said_by")),
        sa.ForeignKeyConstraint(["migration_id"], ["migrations.id"], name=op.f("fk_repairs_migration_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_repairs")),
    )
    op.create_index(op.f("ix_repairs_migration_id"), "repairs", ["migration_id"])
    op.create_table(
        "repaired_rows",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("repair_id", sa.Integer(), nullable=False),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("shard", sa.String(), nullable=False),
        sa.Column("bucket", sa.String(), nullable=False),
        sa.Column("table", sa.String(), nullable=False),
        sa.Column("what", sa.String(), nullable=False),
        sa.Column("keys", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("why", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.CheckConstraint(
            "what IN ('intended', 'inserted', 'updated', 'deleted', 'equal', 'left')",
            name=op.f("ck_repaired_rows_what"),
        ),
        sa.ForeignKeyConstraint(["repair_id"], ["repairs.id"], name=op.f("fk_repaired_rows_repair_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_repaired_rows")),
    )
    op.create_index(op.f("ix_repaired_rows_repair_id"), "repaired_rows", ["repair_id"])
    op.execute(
        """
        CREATE FUNCTION repairs_are_final() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'what was repaired is neither changed nor deleted';
        END $$
        """
    )
    for table in ("repairs", "repaired_rows"):
        op.execute(
            f"""
            CREATE TRIGGER repairs_are_final BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION repairs_are_final()
            """
        )
    op.execute(
        """
        CREATE FUNCTION verdicts_are_final() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'verification % has its verdict: it is neither changed nor deleted', OLD.id;
        END $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER verdicts_are_final BEFORE UPDATE OR DELETE ON verifications
        FOR EACH ROW WHEN (OLD.finished_at IS NOT NULL) EXECUTE FUNCTION verdicts_are_final()
        """
    )


def downgrade() -> None:
    for table in ("repaired_rows", "repairs", "verifications"):
        op.drop_table(table)
    for function in ("repairs_are_final", "verdicts_are_final"):
        op.execute(f"DROP FUNCTION {function}()")
