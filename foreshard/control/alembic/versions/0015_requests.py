"""requests: what people asked of migrations; stream_readings: lag and WAL; a step may have been interrupted"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

STAGES = (
    "'preflight', 'prepare', 'backfill', 'catch_up', 'verify', 'read_shadow', 'write_redirect', 'cutover', 'soak', "
    "'finalise', 'aborting', 'reversing', 'done', 'aborted', 'reversed'"
)
OUTCOMES = "'running', 'finished', 'failed', 'lost'"


def upgrade() -> None:
    op.create_table(
        "requests",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("migration_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("asked_by", sa.String(), nullable=False),
        sa.Column("way", sa.String(), nullable=False),
        sa.Column("comment", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("carrier", sa.String(), nullable=True),
        sa.Column(
            "asked_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("held_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("settled_by", sa.String(), nullable=True),
        sa.Column("settlement", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.CheckConstraint("kind IN ('pause', 'resume', 'abort', 'reverse')", name=op.f("ck_requests_kind")),
        sa.CheckConstraint("way IN ('ui', 'shell', 'janitor')", name=op.f("ck_requests_way")),
        sa.CheckConstraint(f"stage IN ({STAGES})", name=op.f("ck_requests_stage")),
        sa.CheckConstraint("btrim(asked_by) <> ''", name=op.f("ck_requests_asked_by")),
        sa.CheckConstraint("held_at IS NULL OR kind = 'pause'", name=op.f("ck_requests_held")),
        sa.CheckConstraint(
            "(outcome IS NULL) = (settled_at IS NULL) AND (outcome IS NULL) = (settled_by IS NULL)",
            name=op.f("ck_requests_settled"),
        ),
        sa.CheckConstraint(
            "outcome IS NULL OR (kind = 'pause' AND outcome IN ('overtaken', 'replaced', 'resumed'))"
            " OR (kind = 'resume' AND outcome IN ('done'))"
            " OR (kind = 'abort' AND outcome IN ('done', 'overtaken', 'refused'))"
            " OR (kind = 'reverse' AND outcome IN ('done', 'overtaken', 'refused'))",
            name=op.f("ck_requests_outcome"),
        ),
        sa.ForeignKeyConstraint(["migration_id"], ["migrations.id"], name=op.f("fk_requests_migration_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_requests")),
    )
    op.create_index(op.f("ix_requests_migration_id"), "requests", ["migration_id"])
    op.create_index(
        "uq_requests_open",
        "requests",
        ["migration_id"],
        unique=True,
        postgresql_where=sa.text("outcome IS NULL"),
    )
    op.execute(
        """
        CREATE FUNCTION requests_are_only_settled() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'UPDATE' AND OLD.outcome IS NULL
               AND (OLD.held_at IS NULL OR NEW.held_at = OLD.held_at)
               AND (to_jsonb(NEW) - '{held_at,outcome,settled_at,settled_by,settlement}'::text[])
                 = (to_jsonb(OLD) - '{held_at,outcome,settled_at,settled_by,settlement}'::text[]) THEN
                RETURN NEW;
            END IF;
            RAISE EXCEPTION 'request %: what was asked is neither changed nor deleted, and settled once', OLD.id;
        END $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER requests_are_only_settled BEFORE UPDATE OR DELETE ON requests
        FOR EACH ROW EXECUTE FUNCTION requests_are_only_settled()
        """
    )
    op.create_table(
        "stream_readings",
        sa.Column("migration_id", sa.Integer(), nullable=False),
        sa.Column(
            "read_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("forward_lag_bytes", sa.BigInteger(), nullable=True),
        sa.Column("forward_lag_s", sa.Float(), nullable=True),
        sa.Column("reverse_lag_bytes", sa.BigInteger(), nullable=True),
        sa.Column("reverse_lag_s", sa.Float(), nullable=True),
        sa.Column("source_wal_bytes", sa.BigInteger(), nullable=True),
        sa.Column("target_wal_bytes", sa.BigInteger(), nullable=True),
        sa.Column("wal_budget_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["migration_id"], ["migrations.id"], name=op.f("fk_stream_readings_migration_id")
        ),
        sa.PrimaryKeyConstraint("migration_id", name=op.f("pk_stream_readings")),
    )
    op.drop_constraint(op.f("ck_stage_runs_outcome"), "stage_runs", type_="check")
    op.create_check_constraint(
        op.f("ck_stage_runs_outcome"), "stage_runs", f"outcome IN ({OUTCOMES}, 'interrupted')"
    )


def downgrade() -> None:
    op.drop_constraint(op.f("ck_stage_runs_outcome"), "stage_runs", type_="check")
    op.execute("UPDATE stage_runs SET outcome = 'failed' WHERE outcome = 'interrupted'")
    op.create_check_constraint(op.f("ck_stage_runs_outcome"), "stage_runs", f"outcome IN ({OUTCOMES})")
    op.drop_table("stream_readings")
    op.drop_table("requests")
    op.execute("DROP FUNCTION requests_are_only_settled()")
