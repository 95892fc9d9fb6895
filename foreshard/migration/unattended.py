"""Migrations that nobody drives just now, since a person is being waited for: neither keys nor disks can wait.

After a failover the promoted server refuses every write to the buckets that move until it has been closed again; and
whatever a runner could not settle before it went is tried again. Streams go on while nobody drives, and what their
reader does not take makes its server keep WAL.
"""

from __future__ import annotations

import logging

import psycopg

from foreshard.control.engine import ControlDatabase
from foreshard.control.lease import Lease, driver_of
from foreshard.control.migration_store import MigrationRecord, MigrationStore
from foreshard.control.request_store import RequestStore
from foreshard.control.stream_store import StreamStore
from foreshard.errors import ForeshardError, IllegalTransition, LeaseLost, OutOfHeadroom
from foreshard.migration import failover, head_start
from foreshard.migration.flip import finish_interrupted
from foreshard.migration.headroom import HeadroomWatch
from foreshard.migration.lifecycle import ABORTABLE, PATH, Stage
from foreshard.migration.requests import Ask, Ruling, Way
from foreshard.migration.work import Work
from foreshard.settings import Settings
from foreshard.topology.keys import SLOTS

logger = logging.getLogger(__name__)

LEASE_S = 60.0
"""Without a heartbeat: settling takes a second or two."""

NOBODY = "nobody"

_STREAMING = frozenset(PATH[PATH.index(Stage.BACKFILL) : PATH.index(Stage.FINALISE)])
"""Stages in which a slot may keep WAL."""


def give_owners(control: ControlDatabase, settings: Settings) -> list[int]:
    """Settle live migrations of which some key has no owner, unless somebody drives them; returns their numbers.

    What they wait for, or why they failed, stays as it is. A shard that does not answer is left for the next time.
    """
    store = MigrationStore(control)
    return [record.id for record in store.live() if _settle(control, settings, store, record)]


def watch_room(control: ControlDatabase, settings: Settings) -> list[int]:
    """Look at the streams of migrations that nobody drives; returns those of which it asked that they be given up.

    What is seen is kept for whoever watches. One that runs out of room before its cutover is to be aborted while that
    is clean, as its runner would do; after the cutover it is a person who decides, and is warned in the log.
    """
    store = MigrationStore(control)
    return [
        record.id
        for record in store.live()
        if record.stage in _STREAMING and driver_of(control, record.id) is None
        if _without_room(control, settings, record)
    ]


def keep_apart(control: ControlDatabase, settings: Settings) -> list[int]:
    """See that the sequences of undriven migrations whose both sides own keys do not meet; returns those that jumped.

    Their first distance is made for the longest wait for an approval; a pause may last longer.
    """
    store = MigrationStore(control)
    return [
        record.id
        for record in store.live()
        if 0 < record.bound < SLOTS and driver_of(control, record.id) is None
        if _apart(control, settings, store, record)
    ]


def _apart(
    control: ControlDatabase, settings: Settings, store: MigrationStore, record: MigrationRecord
) -> bool:
    try:
        # Looked at without the lease: whoever resumes it meanwhile must not find it taken.
        if not head_start.wants_a_jump(Work(control, settings, Lease(record.id, 0, NOBODY))):
            return False
        lease = store.borrow(record.id, "janitor", LEASE_S)
    except LeaseLost:  # whoever drives it sees for itself
        return False
    except (ForeshardError, psycopg.Error) as away:
        logger.warning("migration %s cannot be looked after: %s", record.id, away)
        return False
    try:
        head_start.keep_apart(Work(control, settings, lease))
    except (ForeshardError, psycopg.Error) as problem:
        logger.warning("migration %s: its sequences: %s", record.id, problem)
        return False
    finally:
        store.give_back(lease)
    return True


def _without_room(control: ControlDatabase, settings: Settings, record: MigrationRecord) -> bool:
    """Whether an abort was asked for just now."""
    work: Work | None = None
    try:
        work = Work(control, settings, Lease(record.id, 0, NOBODY))
        HeadroomWatch(work).look(lambda _: None)
    except OutOfHeadroom as out:
        if record.stage not in ABORTABLE:
            logger.warning("migration %s: %s", record.id, out)
            return False
        try:
            _, ruling = RequestStore(control).ask(
                record.id, Ask.ABORT, "foreshard janitor", out.message, Way.JANITOR
            )
        except IllegalTransition:  # it has gone on, or ended, meanwhile
            return False
        logger.warning("migration %s is given up: %s", record.id, out)
        return ruling is not Ruling.SAME
    except (ForeshardError, psycopg.Error) as problem:
        logger.warning("migration %s cannot be looked after: %s", record.id, problem)
        return False
    finally:
        if work is not None and work.reading is not None:
            StreamStore(control).keep(record.id, work.reading)
    return False


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
