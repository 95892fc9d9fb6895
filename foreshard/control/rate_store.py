"""The rates that migrations ran at, and the write pauses of their flips, in the control database."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.dialects.postgresql import insert

from foreshard.control.engine import ControlDatabase
from foreshard.control.lease import Lease, locked_migration
from foreshard.control.migration_models import Flip, Migration, Rate
from foreshard.migration.measured import Measured
from foreshard.planning.learnt_rates import RECENT, LearntRates, Pause, RateKind, Sample
from foreshard.topology.keys import SLOTS


class RateStore:
    """Reads and writes rates; reads pauses, which the flips' journal holds."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control

    def learn(self, lease: Lease, measured: Iterable[Measured]) -> None:
        """Keep what a stage of the migration measured. Of each kind the first counts; a second call changes nothing.

        Raises:
            LeaseLost: the lease is another's now.
        """
        with self._control.transaction() as session:
            row = locked_migration(session, lease)
            for one in measured:
                session.execute(
                    insert(Rate)
                    .values(
                        migration_id=row.id, kind=one.kind.value, source=row.source, target=row.target,
                        bytes=one.bytes, seconds=one.seconds,
                    )
                    .on_conflict_do_nothing()
                )  # fmt: skip

    def learnt(self) -> LearntRates:
        """Of each pair of shards and kind the newest: as many as count."""
        age = func.row_number().over(
            partition_by=(Rate.source, Rate.target, Rate.kind),
            order_by=(Rate.at.desc(), Rate.migration_id.desc()),
        )
        newest = select(Rate, age.label("age")).subquery()
        with self._control.transaction() as session:
            rows = session.execute(select(newest).where(newest.c.age <= RECENT)).all()
            pauses = session.execute(_newest_pauses()).all()
        samples = (
            Sample(
                row.source, row.target, RateKind(row.kind), row.bytes, row.seconds, row.migration_id, row.at
            )
            for row in rows
        )
        return LearntRates(
            tuple(samples),
            tuple(
                Pause(row.source, row.target, row.pause_ms / 1000, row.migration_id, row.at) for row in pauses
            ),
        )


def _newest_pauses() -> Select[Any]:
    """Of each migration whose cutover is done, what its flips to the target paused writes in all.

    None of which a flip's pause is not known: it was found open after its runner had died.
    """
    cutover = (
        select(Flip.migration_id, func.min(Flip.flip_no).label("flip_no"))
        .where(Flip.state == "opened", Flip.to_bound == SLOTS)
        .group_by(Flip.migration_id)
        .subquery()
    )
    of_migration = (
        select(
            Flip.migration_id,
            Migration.source,
            Migration.target,
            func.sum(Flip.pause_ms).label("pause_ms"),
            func.max(Flip.finished_at).label("at"),
        )
        .join(cutover, cutover.c.migration_id == Flip.migration_id)
        .join(Migration, Migration.id == Flip.migration_id)
        .where(Flip.state == "opened", Flip.flip_no <= cutover.c.flip_no)
        .group_by(Flip.migration_id, Migration.source, Migration.target)
        .having(func.count() == func.count(Flip.pause_ms))
        .subquery()
    )
    age = func.row_number().over(
        partition_by=(of_migration.c.source, of_migration.c.target),
        order_by=(of_migration.c.at.desc(), of_migration.c.migration_id.desc()),
    )
    newest = select(of_migration, age.label("age")).subquery()
    return select(newest).where(newest.c.age <= RECENT)
