"""Migrations that nobody drives just now, since a person is being waited for: keys must not wait for that person.

After a failover the promoted server refuses every write to the buckets that move until it has been closed again; and
whatever a runner could not settle before it went is tried again.
"""

from __future__ import annotations

import logging

import psycopg

from foreshard.control.engine import ControlDatabase
from foreshard.control.lease import Lease
from foreshard.control.migration_store import MigrationRecord, MigrationStore
from foreshard.errors import ForeshardError, LeaseLost
from foreshard.migration import failover
from foreshard.migration.flip import finish_interrupted
from foreshard.migration.work import Work
from foreshard.settings import Settings

logger = logging.getLogger(__name__)

LEASE_S = 60.0
"""Without a heartbeat: settling takes a second or two."""

NOBODY = "nobody"


def give_owners(control: ControlDatabase, settings: Settings) -> list[int]:
    """Settle live migrations of which some key has no owner, unless somebody drives them; returns their numbers.

    What they wait for, or why they failed, stays as it is. A shard that does not answer is left for the next time.
    """
    store = MigrationStore(control)
    return [record.id for record in store.live() if _settle(control, settings, store, record)]


def _settle(
    control: ControlDatabase, settings: Settings, store: MigrationStore, record: MigrationRecord
) -> bool:
    try:
        # With a lease that was never given out this one can look, and write nothing.
        work = Work(control, settings, Lease(record.id, 0, NOBODY))
        if not failover.noticed(work) and not work.bounds().gap:
            return False
        lease = store.borrow(record.id, "janitor", LEASE_S)
    except LeaseLost:  # whoever drives it sees for itself
        return False
    except (ForeshardError, psycopg.Error) as away:
        logger.warning("migration %s cannot be looked after: %s", record.id, away)
        return False
    try:
        finish_interrupted(Work(control, settings, lease))
    except (ForeshardError, psycopg.Error) as problem:
        logger.warning("migration %s: some keys have no owner: %s", record.id, problem)
        return False
    finally:
        store.give_back(lease)
    return True
