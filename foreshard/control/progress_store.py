"""How far each step of a migration is, in the control database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from foreshard.control.engine import ControlDatabase
from foreshard.control.lease import Lease, locked_migration
from foreshard.control.migration_models import StepProgress


@dataclass(frozen=True)
class KeptProgress:
    """The newest progress of one step; ``document`` is `Progress.to_json`."""

    step: str
    document: Mapping[str, Any]
    updated_at: datetime


class ProgressStore:
    """Reads and writes the progress of steps."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control

    def keep(self, lease: Lease, step: str, document: Mapping[str, Any]) -> None:
        """Put the newest progress of ``step`` in the place of the one before.

        Raises:
            LeaseLost: the lease is another's now.
        """
        values = {"document": dict(document), "updated_at": func.clock_timestamp()}
        with self._control.transaction() as session:
            locked_migration(session, lease)
            session.execute(
                insert(StepProgress)
                .values(migration_id=lease.migration, step=step, **values)
                .on_conflict_do_update(index_elements=["migration_id", "step"], set_=values)
            )

    def of(self, migration_id: int) -> list[KeptProgress]:
        """The progress of every step that told any, the one told last at the end."""
        with self._control.transaction() as session:
            rows = session.scalars(
                select(StepProgress)
                .where(StepProgress.migration_id == migration_id)
                .order_by(StepProgress.updated_at, StepProgress.step)
            )
            return [KeptProgress(row.step, row.document, row.updated_at) for row in rows]
