"""alerts: conditions that have begun and ended, and what of them was told"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

KINDS = (
    "approval-overdue", "approval-waiting", "approval-expired", "lag", "wal", "forecast-late",
    "verification-failed", "migration-failed", "migration-stuck", "migration-undriven", "gate-no",
    "over-capacity",
)  # fmt: skip


def upgrade() -> None:
    op.create_table(
        "alerts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("document", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "began_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("end_told_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(f"kind IN ({', '.join(map(repr, KINDS))})", name=op.f("ck_alerts_kind")),
        sa.CheckConstraint(
            "end_told_at IS NULL OR (ended_at IS NOT NULL AND told_at IS NOT NULL)",
            name=op.f("ck_alerts_told"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alerts")),
    )
    op.create_index(
        "uq_alerts_lasting", "alerts", ["key"], unique=True, postgresql_where=sa.text("ended_at IS NULL")
    )
    op.create_index("ix_alerts_untold", "alerts", ["id"], postgresql_where=sa.text("end_told_at IS NULL"))


def downgrade() -> None:
    op.drop_table("alerts")
