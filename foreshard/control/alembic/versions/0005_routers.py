"""routers that are registered, and the role that shadow reads are made as"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "routers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("application", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("lease_s", sa.Float(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column(
            "registered_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column(
            "heartbeat_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.CheckConstraint("pid > 0", name=op.f("ck_routers_pid")),
        sa.CheckConstraint("lease_s > 0 AND lease_s <= 300", name=op.f("ck_routers_lease_s")),
        sa.CheckConstraint("epoch > 0", name=op.f("ck_routers_epoch")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_routers")),
    )
    op.add_column("control_plane", sa.Column("shadow_role", sa.String(), nullable=True))
    # A migration under way: routers that know the newest epoch know it.
    op.execute(
        """
        UPDATE migrations
        SET facts = facts || jsonb_build_object('published_epoch', (SELECT routing_epoch FROM control_plane))
        WHERE finished_at IS NULL AND NOT facts ? 'published_epoch'
        """
    )


def downgrade() -> None:
    op.drop_column("control_plane", "shadow_role")
    op.drop_table("routers")
