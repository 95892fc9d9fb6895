"""shadow reads: what failed or never settled is counted, what differed is told in words"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Defaults: routers of the version before write on without these columns.
    for name in ("unsettled", "failures"):
        op.add_column(
            "shadow_reads", sa.Column(name, sa.Integer(), server_default=sa.text("0"), nullable=False)
        )
    op.add_column(
        "shadow_reads",
        sa.Column(
            "differences",
            postgresql.ARRAY(sa.String()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
    )


def downgrade() -> None:
    for name in ("differences", "failures", "unsettled"):
        op.drop_column("shadow_reads", name)
