"""calendar: holidays, where an event comes from, and holiday calendars by country"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

KINDS = "kind IN ('promotion', 'holiday')"
SOURCES = "source IN ('hand', 'form', 'import')"


def upgrade() -> None:
    for name, default in (("kind", "promotion"), ("source", "hand"), ("uid", ""), ("recurrence", "")):
        op.add_column(
            "events", sa.Column(name, sa.String(), server_default=sa.text(f"'{default}'"), nullable=False)
        )
    for name in ("created_at", "updated_at"):
        op.add_column(
            "events",
            sa.Column(name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        )
    op.alter_column("events", "effect", nullable=True)
    op.drop_constraint("uq_events_name", "events")
    op.create_index(
        "uq_events_name", "events", ["name", "starts_at"], unique=True, postgresql_where=sa.text("uid = ''")
    )
    op.create_index(
        "uq_events_uid", "events", ["uid", "recurrence"], unique=True, postgresql_where=sa.text("uid <> ''")
    )
    op.create_check_constraint(op.f("ck_events_kind"), "events", KINDS)
    op.create_check_constraint(op.f("ck_events_source"), "events", SOURCES)
    op.create_check_constraint(
        op.f("ck_events_promotion"), "events", "kind = 'holiday' OR effect IS NOT NULL"
    )
    op.create_table(
        "holiday_calendars",
        sa.Column("country", sa.String(), nullable=False),
        sa.Column("subdivision", sa.String(), nullable=False),
        sa.Column("effect", sa.Float(), nullable=True),
        sa.Column("shards", postgresql.ARRAY(sa.Text()), nullable=True),
        sa.Column("buckets", postgresql.ARRAY(sa.Text()), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("effect > 0 AND effect < 'infinity'", name=op.f("ck_holiday_calendars_effect")),
        sa.PrimaryKeyConstraint("country", "subdivision", name=op.f("pk_holiday_calendars")),
    )


def downgrade() -> None:
    op.drop_table("holiday_calendars")
    for name in ("promotion", "source", "kind"):
        op.drop_constraint(op.f(f"ck_events_{name}"), "events")
    op.drop_index("uq_events_uid", "events")
    op.drop_index("uq_events_name", "events")
    # What the version before cannot hold: holidays without effect, and names that come twice.
    op.execute("DELETE FROM events WHERE effect IS NULL")
    op.execute("DELETE FROM events a USING events b WHERE a.name = b.name AND a.id > b.id")
    op.create_unique_constraint(op.f("uq_events_name"), "events", ["name"])
    op.alter_column("events", "effect", nullable=False)
    for name in ("updated_at", "created_at", "recurrence", "uid", "source", "kind"):
        op.drop_column("events", name)
