"""What migrations do to placement while they run, and what the ended ones did: for the planner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Float, func, select

from foreshard.clock import FleetClock
from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_models import Migration, MigrationBucket
from foreshard.control.models import Plan
from foreshard.migration.lifecycle import ENDS, Stage

GOING_BACK = frozenset({Stage.ABORTING, Stage.REVERSING})


@dataclass(frozen=True)
class UnderWay:
    """Migrations that have not ended.

    ``moving``: bucket -> the shard that it will lie on; of a migration that is taken back, its source. ``busy``: shard
    -> when its migration is expected to end (fleet clock), at least now. ``count``: how many there are.
    """

    moving: Mapping[str, str]
    busy: Mapping[str, datetime]
    count: int


def under_way(control: ControlDatabase, clock: FleetClock, now: datetime) -> UnderWay:
    """What is being moved at ``now``."""
    predicted = Plan.document["timeline"]["predicted_s"].astext.cast(Float)
    query = (
        select(
            Migration.source, Migration.target, Migration.stage, Migration.created_at,
            func.coalesce(predicted, 0.0), func.array_agg(MigrationBucket.bucket),
        )
        .join(Plan, Plan.id == Migration.plan_id)
        .join(MigrationBucket, MigrationBucket.migration_id == Migration.id)
        .where(Migration.stage.not_in(ENDS))
        .group_by(Migration.id, Plan.id)
    )  # fmt: skip
    with control.transaction() as session:
        rows = session.execute(query).tuples().all()
    moving: dict[str, str] = {}
    busy: dict[str, datetime] = {}
    for source, target, stage, created_at, seconds, buckets in rows:
        moving |= dict.fromkeys(buckets, source if stage in GOING_BACK else target)
        ends_at = max(now, clock.from_real(created_at) + timedelta(seconds=seconds))
        for shard in (source, target):
            busy[shard] = max(ends_at, busy.get(shard, ends_at))
    return UnderWay(moving, busy, len(rows))


def came_from(control: ControlDatabase) -> Mapping[str, str]:
    """Bucket -> the shard that it left by its last migration that was finalised."""
    query = (
        select(MigrationBucket.bucket, Migration.source)
        .join(Migration, Migration.id == MigrationBucket.migration_id)
        .where(Migration.stage == Stage.DONE)
        .order_by(MigrationBucket.bucket, Migration.id.desc())
        .distinct(MigrationBucket.bucket)
    )
    with control.transaction() as session:
        return dict(session.execute(query).tuples().all())
