"""Buckets of a plan that are not at its source: on their way there, or gone."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from foreshard.control.migration_models import Migration, MigrationBucket
from foreshard.control.models import Bucket, Plan
from foreshard.errors import BucketBusy, ForeshardError
from foreshard.migration.lifecycle import ENDS, Stage


def refuse_elsewhere(session: Session, plan: Plan) -> None:
    """Every bucket of a plan must be at its source; one that is on its way there is waited for.

    Raises:
        BucketBusy: a live migration brings it.
        ForeshardError: none does.
    """
    elsewhere = session.scalars(
        select(Bucket.name)
        .where(Bucket.name.in_(plan.buckets), Bucket.shard != plan.source)
        .order_by(Bucket.name)
    ).all()
    busy: BucketBusy | None = None
    for bucket in elsewhere:
        bringing = session.scalar(
            select(Migration)
            .join(MigrationBucket, MigrationBucket.migration_id == Migration.id)
            .where(MigrationBucket.bucket == bucket, Migration.target == plan.source)
            .order_by(Migration.id.desc())
            .limit(1)
        )
        if bringing is not None and bringing.stage == Stage.DONE:
            # It was brought here and went away again; or this one ended a moment ago, after the bucket was looked up.
            if session.scalar(select(Bucket.shard).where(Bucket.name == bucket)) == plan.source:
                continue
            bringing = None
        if bringing is None:
            raise ForeshardError(
                f"{bucket} left {plan.source} since plan {plan.id} was made.", remedy="Make a new decision."
            )
        details = {"plan": plan.id, "bucket": bucket, "migration": bringing.id, "stage": bringing.stage}
        if bringing.stage in ENDS | {Stage.ABORTING, Stage.REVERSING}:
            raise ForeshardError(
                f"Plan {plan.id} wants {bucket} from {plan.source}, but migration {bringing.id}, which was to bring "
                f"it there, is {bringing.stage}.",
                remedy="Make a new decision.",
                **details,
            )
        busy = busy or BucketBusy(
            f"{bucket} is on its way to {plan.source}: migration {bringing.id} is in {bringing.stage}.",
            remedy="Wait until that migration is finalised.",
            **details,
        )
    if busy is not None:
        raise busy
