"""the progress of steps, and the rates that migrations ran at"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "step_progress",
        sa.Column("migration_id", sa.Integer(), nullable=False),
        sa.Column("step", sa.String(), nullable=False),
        sa.Column("document", postgresql.JSONB(), nullable=False),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["migration_id"], ["migrations.id"], name=op.f("fk_step_progress_migration_id")
        ),
        sa.PrimaryKeyConstraint("migration_id", "step", name=op.f("pk_step_progress")),
    )
    op.create_table(
        "rates",
        sa.Column("migration_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column(
            "bytes_per_s",
            sa.Float(),
            sa.Computed("bytes::double precision / seconds", persisted=True),
            nullable=False,
        ),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.CheckConstraint(
            "kind IN ('copy_pipe', 'copy_subscription', 'index', 'catch_up', 'verify')",
            name=op.f("ck_rates_kind"),
        ),
        sa.CheckConstraint(
            "bytes > 0 AND seconds > 0 AND seconds < 'infinity'", name=op.f("ck_rates_positive")
        ),
        sa.ForeignKeyConstraint(["migration_id"], ["migrations.id"], name=op.f("fk_rates_migration_id")),
        sa.ForeignKeyConstraint(["source"], ["shards.name"], name=op.f("fk_rates_source")),
        sa.ForeignKeyConstraint(["target"], ["shards.name"], name=op.f("fk_rates_target")),
        sa.PrimaryKeyConstraint("migration_id", "kind", name=op.f("pk_rates")),
    )


def downgrade() -> None:
    op.drop_table("rates")
    op.drop_table("step_progress")
