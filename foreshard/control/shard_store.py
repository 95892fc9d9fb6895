"""Shards that come and go, and their capacities. What they are asked by routers and flows: `TopologyStore`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, or_, select, text, update
from sqlalchemy.orm import Session

from foreshard.control.engine import ControlDatabase
from foreshard.control.load_store import LoadStore
from foreshard.control.migration_models import Migration, Resource
from foreshard.control.models import Bucket, Plan, Shard
from foreshard.errors import ForeshardError, NotFound
from foreshard.migration.lifecycle import ENDS

PROVEN_QUANTILE = 0.99
"""Of the means of five minutes: what a shard bore again and again, not one lucky moment."""


BEGINNING, END = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
"""Before and after all load."""


@dataclass(frozen=True)
class Drained:
    """What draining found: buckets that are still there, and plans onto it that were rejected."""

    buckets: int
    rejected_plans: tuple[int, ...]


@dataclass(frozen=True)
class Proven:
    """The most that a shard has carried of one metric: a lower bound of its capacity. ``means`` of five minutes."""

    metric: str
    value: float
    means: int
    first: datetime
    last: datetime


class ShardStore:
    """Changes to the set of shards."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control

    def drain(self, name: str) -> Drained:
        """No bucket is planned onto it any more, and decisions move its buckets away. Idempotent.

        Raises:
            NotFound: the fleet has no such shard.
        """
        with self._control.transaction() as session:
            _present(session, name).state = "draining"
            session.flush()
            # `MigrationStore.open` locks its plan: either it was there first, or finds it rejected.
            rejected = session.execute(
                update(Plan)
                .where(Plan.state == "proposed", Plan.target == name)
                .values(**_rejected(f"{name} is being drained"))
                .returning(Plan.id)
            ).scalars()
            held = select(func.count()).select_from(Bucket).where(Bucket.shard == name)
            return Drained(session.execute(held).scalar_one(), tuple(sorted(rejected)))

    def undrain(self, name: str) -> None:
        """It is a shard like the others again. Idempotent.

        Raises:
            NotFound: the fleet has no such shard.
        """
        with self._control.transaction() as session:
            _present(session, name).state = "active"

    def obstacles(self, name: str) -> list[str]:
        """Why it cannot be removed now; empty if it can.

        Raises:
            NotFound: the fleet has no such shard.
        """
        with self._control.transaction() as session:
            _present(session, name)
            return _obstacles(session, name)

    def remove(self, name: str) -> int:
        """Take it out of the fleet; what its migrations were stays told. Nothing on the shard itself is changed.

        Returns how many objects of migrations that have ended are left on it, which nobody removes from now on.

        Raises:
            NotFound: the fleet has no such shard.
            ForeshardError: it holds buckets or takes part in a migration; ``details['reasons']``.
        """
        with self._control.transaction() as session:
            # No migration may begin between our look and our word.
            session.execute(text("LOCK TABLE migrations, migration_buckets IN SHARE ROW EXCLUSIVE MODE"))
            shard = _present(session, name)
            reasons = _obstacles(session, name)
            if reasons:
                raise ForeshardError(
                    f"{name} cannot be removed: {'; '.join(reasons)}.",
                    remedy=f"`foreshard shard drain {name}`, and wait until its buckets have left.",
                    reasons=reasons,
                )
            shard.state = "removed"
            session.execute(
                update(Plan)
                .where(Plan.state == "proposed", or_(Plan.target == name, Plan.source == name))
                .values(**_rejected(f"{name} was removed"))
            )
            left = select(func.count()).where(Resource.shard == name, Resource.removed_at.is_(None))
            return session.execute(left).scalar_one()

    def set_capacity(self, name: str, capacity: Mapping[str, float]) -> dict[str, float]:
        """Set these metrics and leave the others; returns all.

        Raises:
            NotFound: the fleet has no such shard.
        """
        with self._control.transaction() as session:
            shard = _present(session, name)
            shard.capacity = {**shard.capacity, **capacity}
            return dict(shard.capacity)

    def proven(self, name: str) -> list[Proven]:
        """The most it has carried of each metric, over all that is known of it (`PROVEN_QUANTILE`).

        Raises:
            NotFound: the fleet has no such shard.
        """
        with self._control.transaction() as session:
            _present(session, name)
        loads = LoadStore(self._control)
        found = []
        for metric in loads.known().metrics:
            means = loads.series(name, None, metric, BEGINNING, END, timedelta(minutes=5))
            if metric != "size_bytes" and len(means):
                value = float(means.quantile(PROVEN_QUANTILE))
                first, last = means.index[0].to_pydatetime(), means.index[-1].to_pydatetime()
                found.append(Proven(metric, value, len(means), first, last))
        return found


def _present(session: Session, name: str) -> Shard:
    shard = session.get(Shard, name, with_for_update=True)
    if shard is None or shard.state == "removed":
        raise NotFound(f"There is no shard {name!r}.", remedy="`foreshard shard list` lists the shards.")
    return shard


def _obstacles(session: Session, name: str) -> list[str]:
    reasons = []
    held = session.scalars(select(Bucket.name).where(Bucket.shard == name).order_by(Bucket.number)).all()
    if held:
        more = f" and {len(held) - 1} more" if len(held) > 1 else ""
        reasons.append(f"it holds {held[0]}{more}")
    live = session.scalars(
        select(Migration.id)
        .where(Migration.stage.not_in(ENDS), or_(Migration.source == name, Migration.target == name))
        .order_by(Migration.id)
    )
    return reasons + [f"migration {migration} has not ended" for migration in live]


def _rejected(why: str) -> dict[str, Any]:
    """What a plan becomes that its shard's change forbids."""
    return {
        "state": "rejected",
        "closed_by": "a change of the shards",
        "closed_at": func.clock_timestamp(),
        "reason": why,
    }
