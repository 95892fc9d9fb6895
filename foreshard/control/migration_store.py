"""Migrations in the control database: stage, lease, and what is recorded on the way.

Every write of a runner carries its lease token. A runner whose lease was taken over writes nothing any more
(`LeaseLost`), however late it wakes up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from foreshard.control import approval_trail
from foreshard.control.elsewhere import refuse_elsewhere
from foreshard.control.engine import ControlDatabase
from foreshard.control.lease import Lease, locked_migration, take_lease
from foreshard.control.migration_models import (
    Confirmation,
    Flip,
    Migration,
    MigrationBucket,
    Resource,
    StageRun,
)
from foreshard.control.models import CLOSED, Bucket, Plan, Shard
from foreshard.control.request_models import Request
from foreshard.control.request_store import hold_undriven, refuse_to_pass, settle_at_end
from foreshard.control.topology_store import publish_routing
from foreshard.errors import ForeshardError, NotFound, PlanClosed
from foreshard.migration.lifecycle import ENDS, Stage, check


@dataclass(frozen=True)
class MigrationRecord:
    """A migration as it stands now. ``lease_expires_at``: of one that waits, when its last driver let go of it."""

    id: int
    plan_id: int
    source: str
    target: str
    buckets: tuple[str, ...]
    stage: Stage
    step: int
    bound: int
    flip_no: int
    shadow_percent: float
    waiting_for: str | None
    failure: str | None
    attempts: int
    flow_run_id: str | None
    facts: Mapping[str, Any]
    created_at: datetime
    finished_at: datetime | None
    lease_expires_at: datetime | None = None


class MigrationStore:
    """Reads and writes migrations."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control

    def open(self, plan_id: int) -> int:
        """The migration of a plan, made if there is none yet. Safe to call twice at once.

        Raises:
            NotFound: no such plan.
            BucketBusy: a bucket is still on its way to the plan's source; ``details['migration']`` brings it.
            PlanClosed: the plan was rejected, or a later decision let it expire.
            ForeshardError: a bucket of the plan is in another migration that has not ended, has moved away, or was to
                come by a migration that was given up; or the target is being drained.
        """
        try:
            with self._control.transaction() as session:
                plan = session.get(Plan, plan_id, with_for_update=True)
                if plan is None:
                    raise NotFound(f"There is no plan {plan_id}.", remedy="`foreshard plan list` lists them.")
                present = session.scalar(select(Migration.id).where(Migration.plan_id == plan_id))
                if present is not None:
                    return present
                if plan.state in CLOSED:
                    why = f"{plan.closed_by}: {plan.reason}" if plan.reason else plan.closed_by
                    raise PlanClosed(f"Plan {plan_id} is {plan.state} by {why}. Nothing was moved.")
                if plan.state != "proposed":
                    raise ForeshardError(f"Plan {plan_id} is {plan.state}.", remedy="Make a new decision.")
                refuse_elsewhere(session, plan)
                target = session.get_one(Shard, plan.target)
                if target.state != "active":
                    raise ForeshardError(
                        f"Plan {plan_id} moves buckets to {plan.target}, which is {target.state}.",
                        remedy="Make a new decision.",
                    )
                migration = Migration(plan_id=plan_id, source=plan.source, target=plan.target)
                session.add(migration)
                session.flush()
                session.add_all(
                    MigrationBucket(migration_id=migration.id, bucket=name) for name in plan.buckets
                )
                plan.state = "migrating"
                # Routers that know this epoch know that these buckets move.
                migration.facts = {"published_epoch": publish_routing(session)}
                return migration.id
        except IntegrityError as error:
            raise ForeshardError(
                f"A bucket of plan {plan_id} is in another migration that has not ended.",
                remedy="Wait for it, or abort it.",
                plan=plan_id,
            ) from error

    def get(self, migration_id: int) -> MigrationRecord:
        """One migration.

        Raises:
            NotFound: no such migration.
        """
        with self._control.transaction() as session:
            row = session.get(Migration, migration_id)
            if row is None:
                raise NotFound(
                    f"There is no migration {migration_id}.", remedy="`foreshard status` lists migrations."
                )
            return _record(session, row)

    def all(self) -> list[MigrationRecord]:
        """All migrations, newest first."""
        with self._control.transaction() as session:
            rows = session.scalars(select(Migration).order_by(Migration.id.desc())).all()
            return [_record(session, row) for row in rows]

    def shown(self, ended: int) -> list[MigrationRecord]:
        """All that have not ended, and so many of those that ended last."""
        last = (
            select(Migration.id).where(Migration.stage.in_(ENDS)).order_by(Migration.id.desc()).limit(ended)
        )
        query = select(Migration).where(or_(Migration.stage.not_in(ENDS), Migration.id.in_(last)))
        with self._control.transaction() as session:
            return [_record(session, row) for row in session.scalars(query.order_by(Migration.id)).all()]

    def live(self) -> list[MigrationRecord]:
        """Migrations that have not ended, oldest first."""
        return [record for record in reversed(self.all()) if record.stage not in ENDS]

    def abandoned(self) -> list[MigrationRecord]:
        """Live migrations that nobody drives: no valid lease, and no person is being waited for.

        One that failed is left to people, unless a flip is unsettled (then some keys may have no owner), or unless
        people asked to give it back.
        """
        with self._control.transaction() as session:
            rows = session.scalars(
                select(Migration).where(
                    Migration.stage.not_in(ENDS),
                    Migration.waiting_for.is_(None),
                    or_(
                        Migration.failure.is_(None),
                        exists().where(Flip.migration_id == Migration.id, Flip.state == "intended"),
                        exists().where(
                            Request.migration_id == Migration.id,
                            Request.outcome.is_(None),
                            Request.kind.in_(("abort", "reverse")),
                        ),
                    ),
                    func.coalesce(Migration.lease_expires_at, Migration.created_at + timedelta(seconds=60))
                    < func.clock_timestamp(),
                )
            ).all()
            return [_record(session, row) for row in rows]

    # -- lease ------------------------------------------------------------------------------------------

    def acquire(self, migration_id: int, holder: str, flow_run_id: str | None, seconds: float) -> Lease:
        """Take the lease if it is free or expired, with a new token.

        Raises:
            LeaseLost: another runner holds it.
        """
        with self._control.transaction() as session:
            lease = take_lease(
                session, migration_id, holder, seconds,
                attempts=Migration.attempts + 1, flow_run_id=flow_run_id, waiting_for=None, failure=None,
            )  # fmt: skip
            session.execute(
                update(StageRun)
                .where(StageRun.migration_id == migration_id, StageRun.outcome == "running")
                .values(outcome="lost", finished_at=func.clock_timestamp())
            )
            return lease

    def borrow(self, migration_id: int, holder: str, seconds: float) -> Lease:
        """The lease for a moment, where nobody has it: what the migration waits for, or why it failed, stays as it is.

        Raises:
            LeaseLost: another runner holds it.
        """
        with self._control.transaction() as session:
            return take_lease(session, migration_id, holder, seconds)

    def give_back(self, lease: Lease) -> None:
        """End what was borrowed."""
        self._write(lease, lease_expires_at=func.clock_timestamp())

    def renew(self, lease: Lease, seconds: float) -> None:
        """Prolong the lease.

        Raises:
            LeaseLost: somebody else took it.
        """
        self._write(lease, lease_expires_at=func.clock_timestamp() + timedelta(seconds=seconds))

    def release(self, lease: Lease, *, waiting_for: str | None = None, failure: str | None = None) -> None:
        """Give the lease back: the migration ended, waits for a person, or failed. A pause holds from now on."""
        with self._control.transaction() as session:
            row = locked_migration(session, lease)
            row.waiting_for, row.failure = waiting_for, failure
            hold_undriven(session, row)
            row.lease_expires_at = session.scalar(select(func.clock_timestamp()))

    # -- progress ---------------------------------------------------------------------------------------

    def go_to(self, lease: Lease, stage: Stage) -> None:
        """Move to ``stage`` by the transition table; an end settles plan, placement and buckets with it.

        Raises:
            IllegalTransition: the table does not allow it.
            Interrupted: to finalise, although somebody asked to hold it or to take it back.
            LeaseLost: the lease is another's now.
        """
        with self._control.transaction() as session:
            row = locked_migration(session, lease)
            check(Stage(row.stage), stage)
            row.stage, row.step = stage.value, 0
            if stage is Stage.FINALISE:
                refuse_to_pass(session, lease.migration)
            if stage in (Stage.ABORTING, Stage.REVERSING):
                approval_trail.withdraw(session, lease.migration, "the migration is undone")
            if stage in ENDS:
                _settle(session, row, stage)
                settle_at_end(session, lease.migration, stage, lease.holder)
            publish_routing(session)

    def finish_step(self, lease: Lease, step: int) -> None:
        """Note that ``step`` steps of the present stage are finished."""
        self._write(lease, step=step)

    def set_routing(
        self, lease: Lease, *, bound: int | None = None, shadow_percent: float | None = None
    ) -> int:
        """Publish a new bound or shadow percentage to the routers; returns the routing epoch."""
        changed = {"bound": bound, "shadow_percent": shadow_percent}
        with self._control.transaction() as session:
            row = locked_migration(session, lease)
            for name, value in changed.items():
                if value is not None:
                    setattr(row, name, value)
            return publish_routing(session)

    def put_facts(self, lease: Lease, **facts: Any) -> None:
        """Add to what later stages need to know. Values must be JSON."""
        with self._control.transaction() as session:
            row = locked_migration(session, lease)
            row.facts = {**row.facts, **facts}

    def begin(self, lease: Lease, stage: Stage, name: str) -> int:
        """Journal that a step begins; returns the journal row's id."""
        with self._control.transaction() as session:
            locked_migration(session, lease)
            run = StageRun(migration_id=lease.migration, stage=stage.value, name=name)
            session.add(run)
            session.flush()
            return run.id

    def end(self, lease: Lease, run_id: int, outcome: str, detail: Mapping[str, Any]) -> None:
        """Journal how a step ended."""
        with self._control.transaction() as session:
            locked_migration(session, lease)
            session.execute(
                update(StageRun)
                .where(StageRun.id == run_id)
                .values(outcome=outcome, finished_at=func.clock_timestamp(), detail=dict(detail))
            )

    def stage_runs(self, migration_id: int) -> Sequence[StageRun]:
        """The journal of a migration, in order."""
        with self._control.transaction() as session:
            return session.scalars(
                select(StageRun).where(StageRun.migration_id == migration_id).order_by(StageRun.id)
            ).all()

    # -- what it made on shards -------------------------------------------------------------------------

    def record_resource(self, lease: Lease, shard: str, kind: str, name: str) -> None:
        """Note a thing *before* it is created on a shard, so that it can always be removed."""
        with self._control.transaction() as session:
            locked_migration(session, lease)
            session.execute(
                insert(Resource)
                .values(migration_id=lease.migration, shard=shard, kind=kind, name=name)
                .on_conflict_do_nothing()
            )

    def resource_removed(self, lease: Lease, shard: str, kind: str, name: str) -> None:
        """Note that a thing is gone."""
        with self._control.transaction() as session:
            locked_migration(session, lease)
            session.execute(
                update(Resource)
                .where(
                    Resource.migration_id == lease.migration,
                    Resource.shard == shard,
                    Resource.kind == kind,
                    Resource.name == name,
                    Resource.removed_at.is_(None),
                )
                .values(removed_at=func.clock_timestamp())
            )

    def resources(self, migration_id: int) -> Sequence[Resource]:
        """Everything the migration made, removed or not."""
        with self._control.transaction() as session:
            return session.scalars(
                select(Resource).where(Resource.migration_id == migration_id).order_by(Resource.id)
            ).all()

    # -- the end ----------------------------------------------------------------------------------------

    def confirm(self, lease: Lease, document: Mapping[str, Any]) -> None:
        """Write the one immutable confirmation row. A second call changes nothing."""
        with self._control.transaction() as session:
            locked_migration(session, lease)
            session.execute(
                insert(Confirmation)
                .values(migration_id=lease.migration, document=dict(document))
                .on_conflict_do_nothing()
            )

    def confirmation(self, migration_id: int) -> dict[str, Any] | None:
        """The confirmation of a finished migration, or None."""
        with self._control.transaction() as session:
            row = session.get(Confirmation, migration_id)
            return None if row is None else {"confirmed_at": row.created_at.isoformat(), **row.document}

    # -- inside -----------------------------------------------------------------------------------------

    def _write(self, lease: Lease, **values: Any) -> None:
        with self._control.transaction() as session:
            row = locked_migration(session, lease)
            for name, value in values.items():
                setattr(row, name, value)


def _settle(session: Session, row: Migration, end: Stage) -> None:
    """An end: buckets are free again and, when all went through, placed on the target."""
    row.finished_at = session.scalar(select(func.clock_timestamp()))
    names = session.scalars(
        select(MigrationBucket.bucket).where(MigrationBucket.migration_id == row.id, MigrationBucket.live)
    ).all()
    session.execute(update(MigrationBucket).where(MigrationBucket.migration_id == row.id).values(live=False))
    session.execute(update(Plan).where(Plan.id == row.plan_id).values(state=end.value))
    if end is Stage.DONE:
        session.execute(
            update(Bucket)
            .where(Bucket.name.in_(names))
            .values(shard=row.target, last_moved_at=func.clock_timestamp())
        )


def _record(session: Session, row: Migration) -> MigrationRecord:
    buckets = session.scalars(
        select(MigrationBucket.bucket)
        .where(MigrationBucket.migration_id == row.id)
        .order_by(MigrationBucket.bucket)
    )
    return MigrationRecord(
        id=row.id, plan_id=row.plan_id, source=row.source, target=row.target, buckets=tuple(buckets),
        stage=Stage(row.stage), step=row.step, bound=row.bound, flip_no=row.flip_no,
        shadow_percent=row.shadow_percent, waiting_for=row.waiting_for, failure=row.failure,
        attempts=row.attempts, flow_run_id=row.flow_run_id, facts=dict(row.facts),
        created_at=row.created_at, finished_at=row.finished_at, lease_expires_at=row.lease_expires_at,
    )  # fmt: skip
