"""forecasts: bands as arrays, with the peak, weights and scores; how a run was made; last known good fits

Bands of before are dropped: they know no peak, and the next forecast takes their place within the hour. Their runs
stay, since decisions refer to them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

QUANTILES = "array_length(quantiles, 1) > 0 AND array_length(quantiles, 2) = 7"
PEAK = "array_length(peak, 1) = 17"


def upgrade() -> None:
    op.add_column(
        "forecast_runs", sa.Column("step_minutes", sa.Integer(), server_default=sa.text("60"), nullable=False)
    )
    op.add_column("forecast_runs", sa.Column("metrics", postgresql.ARRAY(sa.Text()), nullable=True))
    for name in ("parameters", "counts"):
        op.add_column(
            "forecast_runs",
            sa.Column(
                name,
                postgresql.JSONB(astext_type=sa.Text()),
                server_default=sa.text("'{}'"),
                nullable=False,
            ),
        )
    op.add_column(
        "forecast_runs",
        sa.Column("notes", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    )
    op.create_check_constraint(op.f("ck_forecast_runs_step_minutes"), "forecast_runs", "step_minutes > 0")
    op.execute("TRUNCATE forecast_bands")
    op.drop_column("forecast_bands", "band")
    op.drop_column("forecast_bands", "score")
    for name in ("weights", "scores"):
        op.add_column(
            "forecast_bands", sa.Column(name, postgresql.JSONB(astext_type=sa.Text()), nullable=False)
        )
    op.add_column("forecast_bands", sa.Column("coverage", sa.Float(), nullable=True))
    op.add_column("forecast_bands", sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False))
    op.add_column(
        "forecast_bands", sa.Column("quantiles", postgresql.ARRAY(sa.REAL(), dimensions=2), nullable=False)
    )
    op.add_column("forecast_bands", sa.Column("peak", postgresql.ARRAY(sa.REAL()), nullable=False))
    op.create_check_constraint(op.f("ck_forecast_bands_quantiles"), "forecast_bands", QUANTILES)
    op.create_check_constraint(op.f("ck_forecast_bands_peak"), "forecast_bands", PEAK)
    op.create_table(
        "forecast_fits",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("step_minutes", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("fitted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("trained_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("trained_to", sa.DateTime(timezone=True), nullable=False),
        sa.Column("series", sa.Integer(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", "step_minutes", name=op.f("pk_forecast_fits")),
    )


def downgrade() -> None:
    op.drop_table("forecast_fits")
    op.execute("TRUNCATE forecast_bands")
    for name in ("peak", "quantiles", "starts_at", "coverage", "scores", "weights"):
        op.drop_column("forecast_bands", name)
    op.add_column("forecast_bands", sa.Column("score", sa.Float(), nullable=True))
    op.add_column(
        "forecast_bands", sa.Column("band", postgresql.JSONB(astext_type=sa.Text()), nullable=False)
    )
    for name in ("notes", "counts", "parameters", "metrics", "step_minutes"):
        op.drop_column("forecast_runs", name)
