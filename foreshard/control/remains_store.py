"""What the control database knows of migrations that have ended, for the janitor. It holds no lease."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, update

from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_models import Migration, MigrationBucket, Resource
from foreshard.control.models import Bucket
from foreshard.migration.lifecycle import ENDS, Stage


@dataclass(frozen=True)
class Known:
    """A migration as far as the janitor needs it. ``owners``: the shard that holds each of its buckets now."""

    number: int
    stage: Stage
    source: str
    target: str
    owners: dict[str, str]

    @property
    def ended(self) -> bool:
        """Whether nothing of it is needed any more."""
        return self.stage in ENDS


class RemainsStore:
    """Reads ends, and notes what was removed after them."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control

    def look_up(self, number: int) -> Known | None:
        """The migration of that number, or None if this control database has never heard of it.

        Read under a lock of its row, so that a runner's step to another stage is seen whole. An end is final
        (nothing follows it in the transition table), so what is found ended here stays so after the lock is gone:
        no runner can be racing us. One that ends it just after we looked only makes us leave it for the next time.
        """
        with self._control.transaction() as session:
            row = session.get(Migration, number, with_for_update={"read": True})
            if row is None:
                return None
            owners = session.execute(
                select(Bucket.name, Bucket.shard)
                .join(MigrationBucket, MigrationBucket.bucket == Bucket.name)
                .where(MigrationBucket.migration_id == number)
            )
            return Known(number, Stage(row.stage), row.source, row.target, dict(owners.tuples().all()))

    def unremoved(self, shard: str) -> Sequence[Resource]:
        """Everything on that shard that ended migrations recorded and nobody removed."""
        with self._control.transaction() as session:
            return session.scalars(
                select(Resource)
                .join(Migration, Migration.id == Resource.migration_id)
                .where(Resource.shard == shard, Resource.removed_at.is_(None), Migration.stage.in_(ENDS))
                .order_by(Resource.id)
            ).all()

    def all_removed(self, number: int, shard: str) -> None:
        """Note that nothing of an ended migration is left on that shard."""
        with self._control.transaction() as session:
            session.execute(
                update(Resource)
                .where(
                    Resource.migration_id == number, Resource.shard == shard, Resource.removed_at.is_(None)
                )
                .values(removed_at=func.clock_timestamp())
            )
