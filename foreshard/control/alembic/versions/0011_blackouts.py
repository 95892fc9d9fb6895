"""calendar: blackouts, in which no migration may run"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

CHECKS = {
    "kind": "kind IN ('promotion', 'holiday', 'blackout')",
    "promotion": "kind <> 'promotion' OR effect IS NOT NULL",
    "blackout": "kind <> 'blackout' OR (effect IS NULL AND shards IS NULL AND buckets IS NULL)",
}
BEFORE = {"kind": "kind IN ('promotion', 'holiday')", "promotion": "kind = 'holiday' OR effect IS NOT NULL"}


def upgrade() -> None:
    _replace(BEFORE, CHECKS)


def downgrade() -> None:
    op.execute("DELETE FROM events WHERE kind = 'blackout'")  # the version before cannot hold them
    _replace(CHECKS, BEFORE)


def _replace(old: dict[str, str], new: dict[str, str]) -> None:
    for name in old:
        op.drop_constraint(op.f(f"ck_events_{name}"), "events")
    for name, condition in new.items():
        op.create_check_constraint(op.f(f"ck_events_{name}"), "events", condition)
