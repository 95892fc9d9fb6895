"""Results of shadow reads: evidence for the gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_models import ShadowReads


@dataclass(frozen=True)
class ShadowTotals:
    """Shadow reads of one migration, over all routers."""

    reads: int
    matches: int
    lags: int
    mismatches: int
    dropped: int


class ShadowStore:
    """Adds up what routers saw."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control

    def record(
        self,
        migration: int,
        router: str,
        totals: ShadowTotals,
        latency: Mapping[str, Any] | None = None,
    ) -> None:
        """Add one router's results since its last flush."""
        with self._control.transaction() as session:
            session.add(
                ShadowReads(
                    migration_id=migration, router=router, reads=totals.reads, matches=totals.matches,
                    lags=totals.lags, mismatches=totals.mismatches, dropped=totals.dropped,
                    latency=dict(latency or {}),
                )
            )  # fmt: skip

    def totals(self, migration: int) -> ShadowTotals:
        """The sum over routers and flushes."""
        columns = (
            ShadowReads.reads, ShadowReads.matches, ShadowReads.lags, ShadowReads.mismatches, ShadowReads.dropped,
        )  # fmt: skip
        with self._control.transaction() as session:
            row = session.execute(
                select(*(func.coalesce(func.sum(column), 0) for column in columns)).where(
                    ShadowReads.migration_id == migration
                )
            ).one()
        return ShadowTotals(*(int(value) for value in row))
