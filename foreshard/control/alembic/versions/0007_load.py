"""load: arrays of values by shard, rolled up, partitioned by time; samples of before move into them"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

LEVELS = ("load_raw", "load_five_minutes", "load_hours")

# What `load.metric.additive` said when this was written.
NAMES = """
INSERT INTO load_shards (name) SELECT DISTINCT shard FROM load_samples ORDER BY shard;
INSERT INTO load_metrics (name, additive)
    SELECT DISTINCT metric, metric LIKE '%\\_per\\_s' OR metric = 'cpu_cores' FROM load_samples ORDER BY metric;
INSERT INTO load_members (shard, position, bucket)
    SELECT s.id, row_number() OVER (PARTITION BY s.id ORDER BY names.bucket), names.bucket
    FROM load_shards AS s
    JOIN (SELECT shard, bucket FROM load_samples UNION SELECT shard, '' FROM load_samples) AS names
      ON names.shard = s.name;
"""

PARTITIONS = """
DO $$
DECLARE day date;
BEGIN
    FOR day IN SELECT DISTINCT (ts AT TIME ZONE 'UTC')::date FROM load_samples LOOP
        EXECUTE format('CREATE TABLE load_partitions.%I PARTITION OF load_raw FOR VALUES FROM (%L) TO (%L)',
                       'raw_' || to_char(day, 'YYYYMMDD'), day::timestamp AT TIME ZONE 'UTC',
                       (day + 1)::timestamp AT TIME ZONE 'UTC');
    END LOOP;
END $$
"""

# Out of the range of single precision: as large as it can be, or nothing.
MOVE = """
INSERT INTO load_raw (metric, ts, shard, live, amounts)
SELECT m.id, k.ts, s.id, count(l.value) FILTER (WHERE l.source = 'live'),
       array_agg((CASE WHEN l.value < 1e-37 THEN 0 WHEN l.value > 3e38 THEN 3e38 ELSE l.value END)::real
                 ORDER BY o.position)
FROM (SELECT DISTINCT metric, ts, shard FROM load_samples) AS k
JOIN load_metrics AS m ON m.name = k.metric
JOIN load_shards AS s ON s.name = k.shard
JOIN load_members AS o ON o.shard = s.id
LEFT JOIN load_samples AS l
       ON (l.metric, l.ts, l.shard, l.bucket) = (k.metric, k.ts, k.shard, o.bucket)
GROUP BY m.id, k.ts, s.id
"""

MARK = """
INSERT INTO load_marks (step, claimed, start)
SELECT DISTINCT 'five_minutes', false, date_bin('5 minutes', ts - interval '1 microsecond', 'epoch') FROM load_raw
"""

# Samples where they are still kept, else the hours' means: only they are from before the first sample.
BACK = """
INSERT INTO load_samples (ts, shard, bucket, metric, value, source)
SELECT l.ts, s.name, o.bucket, m.name, v.value, CASE WHEN l.live > 0 THEN 'live' ELSE 'history' END
FROM (
    SELECT ts, metric, shard, live, amounts FROM load_raw
    UNION ALL
    SELECT ts + interval '1 hour', metric, shard, live, amounts FROM load_hours WHERE ts < coalesce((SELECT at FROM load_horizons WHERE name = 'raw'), '-infinity')
) AS l
CROSS JOIN LATERAL unnest(l.amounts) WITH ORDINALITY AS v (value, position)
JOIN load_members AS o ON o.shard = l.shard AND o.position = v.position
JOIN load_shards AS s ON s.id = l.shard
JOIN load_metrics AS m ON m.id = l.metric
WHERE v.value IS NOT NULL
ON CONFLICT DO NOTHING
"""


def upgrade() -> None:
    op.execute("CREATE SCHEMA load_partitions")
    op.create_table(
        "load_shards",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_load_shards")),
        sa.UniqueConstraint("name", name=op.f("uq_load_shards_name")),
    )
    op.create_table(
        "load_metrics",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("additive", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_load_metrics")),
        sa.UniqueConstraint("name", name=op.f("uq_load_metrics_name")),
    )
    op.create_table(
        "load_members",
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("bucket", sa.String(), nullable=False),
        sa.CheckConstraint(
            "position >= 1 AND (position = 1) = (bucket = '')", name=op.f("ck_load_members_position")
        ),
        sa.ForeignKeyConstraint(["shard"], ["load_shards.id"], name=op.f("fk_load_members_shard")),
        sa.PrimaryKeyConstraint("shard", "position", name=op.f("pk_load_members")),
        sa.UniqueConstraint("shard", "bucket", name=op.f("uq_load_members_shard")),
    )
    for table in LEVELS:
        op.create_table(
            table,
            sa.Column("ts", sa.DateTime(timezone=True), nullable=False),
            sa.Column("metric", sa.Integer(), autoincrement=False, nullable=False),
            sa.Column("shard", sa.Integer(), autoincrement=False, nullable=False),
            sa.Column("live", sa.Integer(), nullable=False),
            sa.Column("amounts", postgresql.ARRAY(sa.REAL()), nullable=False),
            sa.CheckConstraint(
                "0 <= ALL (amounts) AND 'infinity' > ALL (amounts)", name=op.f(f"ck_{table}_amounts")
            ),
            sa.PrimaryKeyConstraint("metric", "ts", "shard", name=op.f(f"pk_{table}")),
            postgresql_partition_by="RANGE (ts)",
        )
    op.create_table(
        "load_marks",
        sa.Column("step", sa.String(), nullable=False),
        sa.Column("claimed", sa.Boolean(), nullable=False),
        sa.Column("start", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("step IN ('five_minutes', 'hours')", name=op.f("ck_load_marks_step")),
        sa.PrimaryKeyConstraint("step", "claimed", "start", name=op.f("pk_load_marks")),
    )
    op.create_table(
        "load_horizons",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_load_horizons")),
    )
    for statement in (NAMES, PARTITIONS, MOVE, MARK):
        op.get_bind().exec_driver_sql(statement.replace("%", "%%"))
    op.drop_table("load_samples")


def downgrade() -> None:
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
    op.get_bind().exec_driver_sql(BACK)
    op.create_index(
        "ix_load_samples_series", "load_samples", ["metric", "bucket", "shard", "ts"], unique=False
    )
    for table in (
        "load_horizons",
        "load_marks",
        *reversed(LEVELS),
        "load_members",
        "load_metrics",
        "load_shards",
    ):
        op.drop_table(table)
    op.execute("DROP SCHEMA load_partitions")
