"""Names of everything a migration makes on shards.

All hold the control plane's id, so that two control planes on one fleet never touch each other's objects.
"""

from __future__ import annotations

from dataclasses import dataclass

FENCE_CLASS = 1179862852
"""First half of the fence's advisory lock; the migration's number is the second. Stands in sql/*.sql too."""

GUARD_TRIGGER = "zz_foreshard_guard"
"""Last by name: it judges the row as all other BEFORE triggers left it."""

TRUNCATE_TRIGGER = "zz_foreshard_truncate"

COPY_TRIGGER = "zz_foreshard_copy"
"""Stands in for both while a side is being copied to."""

COMPARING = "foreshard-checks"
"""``application_name`` of sessions that compare copies, or mend one."""


@dataclass(frozen=True)
class MigrationNames:
    """Names for migration ``number`` of control plane ``plane``."""

    plane: str
    number: int

    @property
    def schema(self) -> str:
        """Schema of bound, marker and guards on both shards; also the NOTIFY channel of markers."""
        return f"foreshard_{self.plane}_{self.number}"

    @property
    def publication(self) -> str:
        """The publication, of the same name on both shards."""
        return self.schema

    @property
    def forward(self) -> str:
        """Subscription on the target, and its slot on the source."""
        return f"{self.schema}_fwd"

    @property
    def reverse(self) -> str:
        """Subscription on the source, and its slot on the target."""
        return f"{self.schema}_rev"

    @property
    def repair_origin(self) -> str:
        """Replication origin of sessions that mend rows; there while one does."""
        return f"{self.schema}_repair"
