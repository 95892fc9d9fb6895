"""first tables"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "control_plane",
        sa.Column("singleton", sa.Boolean(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("routing_epoch", sa.BigInteger(), nullable=False),
        sa.Column("key_type", sa.String(), nullable=False),
        sa.Column(
            "tables", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.CheckConstraint("singleton", name=op.f("ck_control_plane_singleton")),
        sa.PrimaryKeyConstraint("singleton", name=op.f("pk_control_plane")),
    )
    op.create_table(
        "counter_states",
        sa.Column("shard", sa.String(), nullable=False),
        sa.Column("reading", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("shard", name=op.f("pk_counter_states")),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("effect", sa.Float(), nullable=False),
        sa.Column("shards", postgresql.ARRAY(sa.Text()), nullable=True),
        sa.Column("buckets", postgresql.ARRAY(sa.Text()), nullable=True),
        sa.CheckConstraint("effect > 0 AND effect < 'infinity'", name=op.f("ck_events_effect")),
        sa.CheckConstraint("ends_at > starts_at", name=op.f("ck_events_order")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sa.UniqueConstraint("name", name=op.f("uq_events_name")),
    )
    op.create_table(
        "forecast_runs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("horizon_hours", sa.Float(), nullable=False),
        sa.Column("live_samples_used", sa.Integer(), nullable=False),
        sa.Column("series", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_forecast_runs")),
    )
    op.create_table(
        "load_samples",
        sa.Column("ts", sa.DateTime(timezone=True), nullable=False),
        sa.Column("shard", sa.String(), nullable=False),
        sa.Column("bucket", sa.String(), nullable=False),
        sa.Column("metric", sa.String(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.CheckConstraint("source IN ('history', 'live')", name=op.f("ck_load_samples_source")),
        sa.CheckConstraint("value >= 0 AND value < 'infinity'", name=op.f("ck_load_samples_value")),
        sa.PrimaryKeyConstraint("ts", "shard", "bucket", "metric", name=op.f("pk_load_samples")),
    )
    op.create_index(
        "ix_load_samples_series", "load_samples", ["metric", "bucket", "shard", "ts"], unique=False
    )
    op.create_table(
        "shards",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("dsn", sa.String(), nullable=False),
        sa.Column("application_dsn", sa.String(), nullable=False),
        sa.Column("capacity", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_shards")),
    )
    op.create_table(
        "buckets",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("shard", sa.String(), nullable=False),
        sa.Column("last_moved_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["shard"], ["shards.name"], name=op.f("fk_buckets_shard")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_buckets")),
        sa.UniqueConstraint("number", name=op.f("uq_buckets_number")),
    )
    op.create_table(
        "decisions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("forecast_run_id", sa.Integer(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("policy", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("document", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("max_utilisation", sa.Float(), nullable=False),
        sa.Column("reactive_threshold", sa.Float(), nullable=False),
        sa.Column("notes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["forecast_run_id"], ["forecast_runs.id"], name=op.f("fk_decisions_forecast_run_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decisions")),
    )
    op.create_table(
        "forecast_bands",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("shard", sa.String(), nullable=False),
        sa.Column("bucket", sa.String(), nullable=False),
        sa.Column("metric", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("trained_from", sa.DateTime(timezone=True), nullable=True),
        sa.Column("trained_to", sa.DateTime(timezone=True), nullable=True),
        sa.Column("points", sa.Integer(), nullable=False),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("band", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["forecast_runs.id"], name=op.f("fk_forecast_bands_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "shard", "bucket", "metric", name=op.f("pk_forecast_bands")),
    )
    op.create_table(
        "plans",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("decision_id", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("buckets", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("excess_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("document", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "state IN ('proposed', 'migrating', 'done', 'rejected', 'aborted', 'reversed')",
            name=op.f("ck_plans_state"),
        ),
        sa.ForeignKeyConstraint(["decision_id"], ["decisions.id"], name=op.f("fk_plans_decision_id")),
        sa.ForeignKeyConstraint(["source"], ["shards.name"], name=op.f("fk_plans_source")),
        sa.ForeignKeyConstraint(["target"], ["shards.name"], name=op.f("fk_plans_target")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plans")),
    )
    op.create_table(
        "migrations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("plan_id", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("bound", sa.Integer(), nullable=False),
        sa.Column("flip_no", sa.BigInteger(), nullable=False),
        sa.Column("shadow_percent", sa.Float(), nullable=False),
        sa.Column("waiting_for", sa.String(), nullable=True),
        sa.Column("failure", sa.String(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("flow_run_id", sa.String(), nullable=True),
        sa.Column("lease_holder", sa.String(), nullable=True),
        sa.Column("lease_token", sa.BigInteger(), nullable=False),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "facts", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(stage IN ('aborted', 'done', 'reversed')) = (finished_at IS NOT NULL)",
            name=op.f("ck_migrations_end"),
        ),
        sa.CheckConstraint(
            "stage IN ('preflight', 'prepare', 'backfill', 'catch_up', 'verify', 'read_shadow', 'write_redirect', 'cutover', 'soak', 'finalise', 'aborting', 'reversing', 'done', 'aborted', 'reversed')",
            name=op.f("ck_migrations_stage"),
        ),
        sa.CheckConstraint("bound BETWEEN 0 AND 1024", name=op.f("ck_migrations_bound")),
        sa.CheckConstraint("source <> target", name=op.f("ck_migrations_two_shards")),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_migrations_plan_id")),
        sa.ForeignKeyConstraint(["source"], ["shards.name"], name=op.f("fk_migrations_source")),
        sa.ForeignKeyConstraint(["target"], ["shards.name"], name=op.f("fk_migrations_target")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_migrations")),
        sa.UniqueConstraint("plan_id", name=op.f("uq_migrations_plan_id")),
    )
    op.create_table(
        "confirmations",
        sa.Column("migration_id", sa.Integer(), nullable=False),
        sa.Column("document", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["migration_id"], ["migrations.id"], name=op.f("fk_confirmations_migration_id")
        ),
        sa.PrimaryKeyConstraint("migration_id", name=op.f("pk_confirmations")),
    )
    op.create_table(
        "flips",
        sa.Column("migration_id", sa.Integer(), nullable=False),
        sa.Column("flip_no", sa.BigInteger(), nullable=False),
        sa.Column("from_bound", sa.Integer(), nullable=False),
        sa.Column("to_bound", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("pause_ms", sa.Float(), nullable=True),
        sa.Column(
            "intended_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('intended', 'opened', 'cancelled')", name=op.f("ck_flips_state")),
        sa.CheckConstraint("from_bound BETWEEN 0 AND 1024", name=op.f("ck_flips_from_bound")),
        sa.CheckConstraint("to_bound BETWEEN 0 AND 1024", name=op.f("ck_flips_to_bound")),
        sa.ForeignKeyConstraint(["migration_id"], ["migrations.id"], name=op.f("fk_flips_migration_id")),
        sa.PrimaryKeyConstraint("migration_id", "flip_no", name=op.f("pk_flips")),
    )
    op.create_table(
        "gate_runs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("migration_id", sa.Integer(), nullable=False),
        sa.Column("checkpoint", sa.String(), nullable=False),
        sa.Column("flip_no", sa.BigInteger(), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("evaluated", sa.Integer(), nullable=False),
        sa.Column("expected", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("evidence_sha256", sa.String(), nullable=False),
        sa.Column("verdict", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "made_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["migration_id"], ["migrations.id"], name=op.f("fk_gate_runs_migration_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gate_runs")),
    )
    op.create_index(op.f("ix_gate_runs_migration_id"), "gate_runs", ["migration_id"], unique=False)
    op.create_table(
        "migration_buckets",
        sa.Column("migration_id", sa.Integer(), nullable=False),
        sa.Column("bucket", sa.String(), nullable=False),
        sa.Column("live", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["bucket"], ["buckets.name"], name=op.f("fk_migration_buckets_bucket")),
        sa.ForeignKeyConstraint(
            ["migration_id"], ["migrations.id"], name=op.f("fk_migration_buckets_migration_id")
        ),
        sa.PrimaryKeyConstraint("migration_id", "bucket", name=op.f("pk_migration_buckets")),
    )
    op.create_index(
        "uq_migration_buckets_live",
        "migration_buckets",
        ["bucket"],
        unique=True,
        postgresql_where=sa.text("live"),
    )
    op.create_table(
        "resources",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("migration_id", sa.Integer(), nullable=False),
        sa.Column("shard", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column(
            "recorded_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["migration_id"], ["migrations.id"], name=op.f("fk_resources_migration_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_resources")),
        sa.UniqueConstraint("migration_id", "shard", "kind", "name", name=op.f("uq_resources_migration_id")),
    )
    op.create_table(
        "shadow_reads",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("migration_id", sa.Integer(), nullable=False),
        sa.Column("router", sa.String(), nullable=False),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("reads", sa.Integer(), nullable=False),
        sa.Column("matches", sa.Integer(), nullable=False),
        sa.Column("lags", sa.Integer(), nullable=False),
        sa.Column("mismatches", sa.Integer(), nullable=False),
        sa.Column("dropped", sa.Integer(), nullable=False),
        sa.Column(
            "latency", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["migration_id"], ["migrations.id"], name=op.f("fk_shadow_reads_migration_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shadow_reads")),
    )
    op.create_index(op.f("ix_shadow_reads_migration_id"), "shadow_reads", ["migration_id"], unique=False)
    op.create_table(
        "stage_runs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("migration_id", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column(
            "started_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "detail", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.CheckConstraint(
            "outcome IN ('running', 'finished', 'failed', 'lost')", name=op.f("ck_stage_runs_outcome")
        ),
        sa.ForeignKeyConstraint(["migration_id"], ["migrations.id"], name=op.f("fk_stage_runs_migration_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stage_runs")),
    )
    op.create_index(op.f("ix_stage_runs_migration_id"), "stage_runs", ["migration_id"], unique=False)
    op.create_table(
        "approvals",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("migration_id", sa.Integer(), nullable=False),
        sa.Column("flip_no", sa.BigInteger(), nullable=False),
        sa.Column("gate_run_id", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("approver", sa.String(), nullable=False),
        sa.Column("comment", sa.String(), nullable=False),
        sa.Column(
            "requested_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state IN ('approved', 'rejected')) = (decided_at IS NOT NULL AND approver <> '')",
            name=op.f("ck_approvals_decided"),
        ),
        sa.CheckConstraint(
            "state IN ('pending', 'approved', 'rejected', 'superseded')", name=op.f("ck_approvals_state")
        ),
        sa.ForeignKeyConstraint(["gate_run_id"], ["gate_runs.id"], name=op.f("fk_approvals_gate_run_id")),
        sa.ForeignKeyConstraint(["migration_id"], ["migrations.id"], name=op.f("fk_approvals_migration_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_approvals")),
    )
    op.create_index(op.f("ix_approvals_migration_id"), "approvals", ["migration_id"], unique=False)
    op.execute(
        """
        CREATE FUNCTION confirmations_are_final() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'a confirmation is final: it is neither changed nor deleted';
        END $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER confirmations_are_final BEFORE UPDATE OR DELETE OR TRUNCATE ON confirmations
        FOR EACH STATEMENT EXECUTE FUNCTION confirmations_are_final()
        """
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_approvals_migration_id"), table_name="approvals")
    op.drop_table("approvals")
    op.drop_index(op.f("ix_stage_runs_migration_id"), table_name="stage_runs")
    op.drop_table("stage_runs")
    op.drop_index(op.f("ix_shadow_reads_migration_id"), table_name="shadow_reads")
    op.drop_table("shadow_reads")
    op.drop_table("resources")
    op.drop_index(
        "uq_migration_buckets_live", table_name="migration_buckets", postgresql_where=sa.text("live")
    )
    op.drop_table("migration_buckets")
    op.drop_index(op.f("ix_gate_runs_migration_id"), table_name="gate_runs")
    op.drop_table("gate_runs")
    op.drop_table("flips")
    op.drop_table("confirmations")
    op.drop_table("migrations")
    op.drop_table("plans")
    op.drop_table("forecast_bands")
    op.drop_table("decisions")
    op.drop_table("buckets")
    op.drop_table("shards")
    op.drop_index("ix_load_samples_series", table_name="load_samples")
    op.drop_table("load_samples")
    op.drop_table("forecast_runs")
    op.drop_table("events")
    op.drop_table("counter_states")
    op.drop_table("control_plane")
    op.execute("DROP FUNCTION confirmations_are_final()")
