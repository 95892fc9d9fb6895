"""shards come and go: draining, removed; migrations outlive their buckets"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "shards", sa.Column("state", sa.String(), server_default=sa.text("'active'"), nullable=False)
    )
    op.create_check_constraint(
        op.f("ck_shards_state"), "shards", "state IN ('active', 'draining', 'removed')"
    )
    op.drop_constraint(op.f("fk_migration_buckets_bucket"), "migration_buckets", type_="foreignkey")


def downgrade() -> None:
    op.create_foreign_key(
        op.f("fk_migration_buckets_bucket"), "migration_buckets", "buckets", ["bucket"], ["name"]
    )
    op.drop_constraint(op.f("ck_shards_state"), "shards", type_="check")
    op.drop_column("shards", "state")
