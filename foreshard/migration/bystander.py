"""A look at a migration by who does not drive it: a comparison, a repair, a verification. No lease is taken.

A runner goes on meanwhile. Markers have ids of their own, a fence is waited for, and a comparison decides no row while
the bound moves. What would write the journal is refused (`LeaseLost`): no lease has this token.
"""

from __future__ import annotations

from foreshard.control.engine import ControlDatabase
from foreshard.control.lease import Lease
from foreshard.control.migration_store import MigrationRecord, MigrationStore
from foreshard.errors import FailedOver, IllegalTransition
from foreshard.migration import failover, streams
from foreshard.migration.lifecycle import ENDS, PATH, Stage
from foreshard.migration.work import Work
from foreshard.settings import Settings

COMPARABLE = PATH[PATH.index(Stage.VERIFY) : PATH.index(Stage.DONE)]
"""Stages in which both copies are complete and both streams run."""


class Bystander(Work):
    """The migration, for reading it, and for whatever is safe beside its runner.

    Raises `NotFound`.
    """

    def __init__(self, control: ControlDatabase, settings: Settings, migration_id: int) -> None:
        MigrationStore(control).get(migration_id)
        super().__init__(control, settings, Lease(migration_id, -1, "bystander"))

    @property
    def session_name(self) -> str:
        """Not one by which a runner would end the sessions of those before it."""
        return f"foreshard check of migration {self.lease.migration}"


def has_two_copies(record: MigrationRecord) -> bool:
    """Both copies are there and complete, as the journal says."""
    return record.stage in COMPARABLE and not record.facts.get("finalising")


def require_stage(record: MigrationRecord) -> None:
    """Both copies are there and complete, as the journal says.

    Raises:
        IllegalTransition: the stage has not come, or is over.
    """
    if has_two_copies(record):
        return
    over = record.stage in ENDS or record.facts.get("finalising")
    raise IllegalTransition(
        f"Migration {record.id} is in {record.stage}: its two copies can be compared from verify until finalise"
        " drops one.",
        remedy="There is one copy now: `foreshard verify --bucket NAME` looks at it."
        if over
        else "Wait until its rows are copied (`foreshard migration show`).",
        migration=record.id,
    )


def require_comparable(work: Work) -> None:
    """Both copies are there, complete, and follow each other now.

    Raises:
        IllegalTransition: as `require_stage`.
        FailedOver: a shard was failed over, and no runner has settled it yet.
        StreamBroken: a stream does not run: what differs then may be on its way for ever.
        ShardUnavailable: a shard does not answer.
    """
    record = work.record
    require_stage(record)
    if failover.noticed(work):
        raise FailedOver(
            f"A shard of migration {record.id} was failed over and is not settled yet.",
            remedy="Resume the migration, or wait for the janitor, then try again.",
            migration=record.id,
        )
    streams.check_running(work)
