"""Shadow reads of migrations: what share of the reads is repeated, and what routers saw: evidence for the gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from foreshard.control.engine import ControlDatabase
from foreshard.control.lease import Lease, locked_migration
from foreshard.control.migration_models import Migration, ShadowReads
from foreshard.control.topology_store import publish_routing
from foreshard.errors import ForeshardError, InvalidInput, NotFound
from foreshard.migration.lifecycle import Stage

MADE_IN = (Stage.READ_SHADOW, Stage.WRITE_REDIRECT)
"""The stages in which reads are repeated: both sides hold a verified copy."""

_CHOSEN = "shadow_percent_chosen"
"""The fact that a person chose the percentage: the stage leaves it as it is."""


@dataclass(frozen=True)
class ShadowTotals:
    """Shadow reads of one migration, over all routers. Each of ``reads`` is in one of the next five."""

    reads: int = 0
    matches: int = 0
    lags: int = 0
    mismatches: int = 0
    unsettled: int = 0
    failures: int = 0
    dropped: int = 0


class ShadowStore:
    """Adds up what routers saw, and says what share they repeat."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control

    def begin(self, lease: Lease, percent: float) -> float:
        """Publish ``percent``, or leave what a person has chosen; returns which it is.

        Raises:
            LeaseLost: the lease is another's now.
        """
        with self._control.transaction() as session:
            row = locked_migration(session, lease)
            if _CHOSEN not in row.facts:
                row.shadow_percent = percent
            publish_routing(session)
            return row.shadow_percent

    def choose(self, migration: int, percent: float) -> int:
        """What a person decides while the migration runs, whoever drives it; returns the routing epoch.

        Raises:
            InvalidInput: (field ``percent``) not between 0 and 100.
            NotFound: no such migration.
            ForeshardError: it makes no shadow reads at its present stage.
        """
        if not 0 <= percent <= 100:
            raise InvalidInput("percent", f"{percent} is not between 0 and 100")
        with self._control.transaction() as session:
            row = session.get(Migration, migration, with_for_update=True)
            if row is None:
                raise NotFound(
                    f"There is no migration {migration}.", remedy="`foreshard status` lists migrations."
                )
            if row.stage not in MADE_IN:
                raise ForeshardError(
                    f"Migration {migration} is in {row.stage}; reads are repeated in {' and '.join(MADE_IN)}.",
                    remedy="The percentage that the stage begins with is the setting migration.shadow_percent.",
                    migration=migration,
                    stage=row.stage,
                )
            row.shadow_percent = percent
            row.facts = {**row.facts, _CHOSEN: percent}
            return publish_routing(session)

    def record(
        self,
        migration: int,
        router: str,
        totals: ShadowTotals,
        latency: Mapping[str, Any] | None = None,
        differences: Sequence[str] = (),
    ) -> None:
        """Add one router's results since its last flush; ``differences`` says in words what some mismatches were."""
        with self._control.transaction() as session:
            session.add(
                ShadowReads(
                    migration_id=migration, router=router, reads=totals.reads, matches=totals.matches,
                    lags=totals.lags, mismatches=totals.mismatches, unsettled=totals.unsettled,
                    failures=totals.failures, dropped=totals.dropped, latency=dict(latency or {}),
                    differences=list(differences),
                )
            )  # fmt: skip

    def totals(self, migration: int) -> ShadowTotals:
        """The sum over routers and flushes."""
        columns = (
            ShadowReads.reads, ShadowReads.matches, ShadowReads.lags, ShadowReads.mismatches,
            ShadowReads.unsettled, ShadowReads.failures, ShadowReads.dropped,
        )  # fmt: skip
        with self._control.transaction() as session:
            row = session.execute(
                select(*(func.coalesce(func.sum(column), 0) for column in columns)).where(
                    ShadowReads.migration_id == migration
                )
            ).one()
        return ShadowTotals(*(int(value) for value in row))

    def differences(self, migration: int, limit: int = 5) -> list[str]:
        """The first mismatches in words: bucket, owner, how many rows, which columns, the query. No value of a row."""
        with self._control.transaction() as session:
            kept = session.scalars(
                select(ShadowReads.differences)
                .where(ShadowReads.migration_id == migration, ShadowReads.mismatches > 0)
                .order_by(ShadowReads.id)
                .limit(limit)
            ).all()
        return [one for some in kept for one in some][:limit]
