"""plans in turn: expired ones, runs started, who closed a plan and why; decisions name their plans; policy changes

Plans of before have no planned start: the janitor leaves them alone, and the next decision keeps or expires them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

STATES = "'proposed', 'migrating', 'done', 'rejected', 'aborted', 'reversed'"
COLUMNS = (
    "not_before", "after", "attempts", "claimed_at", "flow_run_id", "recheck", "reason", "closed_by", "closed_at",
)  # fmt: skip


def upgrade() -> None:
    op.add_column("plans", sa.Column("not_before", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "plans",
        sa.Column("after", postgresql.ARRAY(sa.Integer()), server_default=sa.text("'{}'"), nullable=False),
    )
    op.add_column("plans", sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("plans", sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("plans", sa.Column("flow_run_id", sa.String(), nullable=True))
    op.add_column("plans", sa.Column("recheck", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    for name in ("reason", "closed_by"):
        op.add_column("plans", sa.Column(name, sa.String(), nullable=True))
    op.add_column("plans", sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True))
    op.drop_constraint(op.f("ck_plans_state"), "plans", type_="check")
    op.create_check_constraint(op.f("ck_plans_state"), "plans", f"state IN ({STATES}, 'expired')")
    op.execute("UPDATE plans SET closed_by = 'unknown', closed_at = now() WHERE state = 'rejected'")
    op.create_check_constraint(
        op.f("ck_plans_closed"),
        "plans",
        "(state IN ('rejected', 'expired')) = (closed_at IS NOT NULL AND closed_by IS NOT NULL)",
    )
    op.execute(
        """
        CREATE FUNCTION closed_plans_are_final() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'plan % is %: it is neither changed nor deleted', OLD.id, OLD.state;
        END $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER closed_plans_are_final BEFORE UPDATE OR DELETE ON plans
        FOR EACH ROW WHEN (OLD.closed_at IS NOT NULL) EXECUTE FUNCTION closed_plans_are_final()
        """
    )
    op.add_column(
        "decisions",
        sa.Column("plan_ids", postgresql.ARRAY(sa.Integer()), server_default=sa.text("'{}'"), nullable=False),
    )
    op.execute(
        """
        UPDATE decisions SET plan_ids = made.ids
        FROM (SELECT decision_id, array_agg(id ORDER BY id) AS ids FROM plans GROUP BY decision_id) AS made
        WHERE made.decision_id = decisions.id
        """
    )
    op.create_table(
        "policy_changes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("layer", sa.String(), nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("before", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("after", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("given", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.CheckConstraint(
            "layer IN ('settings', 'variable', 'parameters')", name=op.f("ck_policy_changes_layer")
        ),
        sa.CheckConstraint("who <> ''", name=op.f("ck_policy_changes_who")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_policy_changes")),
    )
    op.execute(
        """
        CREATE FUNCTION policy_changes_are_final() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'what was changed in the policy is neither changed nor deleted';
        END $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER policy_changes_are_final BEFORE UPDATE OR DELETE OR TRUNCATE ON policy_changes
        FOR EACH STATEMENT EXECUTE FUNCTION policy_changes_are_final()
        """
    )


def downgrade() -> None:
    op.drop_table("policy_changes")
    op.execute("DROP FUNCTION policy_changes_are_final()")
    op.drop_column("decisions", "plan_ids")
    op.execute("DROP TRIGGER closed_plans_are_final ON plans")
    op.execute("DROP FUNCTION closed_plans_are_final()")
    op.drop_constraint(op.f("ck_plans_closed"), "plans", type_="check")
    op.drop_constraint(op.f("ck_plans_state"), "plans", type_="check")
    op.execute("UPDATE plans SET state = 'rejected' WHERE state = 'expired'")
    op.create_check_constraint(op.f("ck_plans_state"), "plans", f"state IN ({STATES})")
    for name in reversed(COLUMNS):
        op.drop_column("plans", name)
