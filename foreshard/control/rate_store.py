"""The rates that migrations ran at, in the control database."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from foreshard.control.engine import ControlDatabase
from foreshard.control.lease import Lease, locked_migration
from foreshard.control.migration_models import Rate
from foreshard.migration.measured import Measured
from foreshard.planning.learnt_rates import RECENT, LearntRates, RateKind, Sample


class RateStore:
    """Reads and writes rates."""

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
        return LearntRates(
            tuple(
                Sample(
                    row.source,
                    row.target,
                    RateKind(row.kind),
                    row.bytes,
                    row.seconds,
                    row.migration_id,
                    row.at,
                )
                for row in rows
            )
        )
