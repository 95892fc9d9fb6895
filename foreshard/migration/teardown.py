"""Removes what a migration made on both shards: streams, publications, guards, and one side's copy.

Used by finalise (the source's copy goes) and by abort and reverse (the target's). Every step is idempotent and asks
the shard first, so it may be run again after a crash.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial

import psycopg
from psycopg import errors

from foreshard.errors import ForeshardError
from foreshard.migration.work import Work
from foreshard.postgres import guard, preflight_queries, replication
from foreshard.postgres.guard import Side
from foreshard.topology.keys import SLOTS

ATTEMPTS = 60


def run(work: Work, loser: Side) -> None:
    """Drop the streams first (never empty a side that a subscription reads), then ``loser``'s copy, then the guards.

    The shard itself checks that the loser owns nothing (`foreshard.drop_copy`).

    Raises:
        ForeshardError: something is still in use after many attempts, or left at the end, or the loser owns keys.
    """
    expected = SLOTS if loser is Side.SOURCE else 0
    with work.connections(statement_timeout_s=60) as (source, target):
        for conn in (source, target):
            conn.execute("SET lock_timeout = '200ms'")
        _patiently(partial(replication.unsubscribe, source, work.names.reverse))
        _gone(work, Side.SOURCE, "subscription", work.names.reverse)
        _patiently(partial(replication.unsubscribe, target, work.names.forward))
        _gone(work, Side.TARGET, "subscription", work.names.forward)
        _patiently(partial(replication.drop_slot, target, work.names.reverse))
        _gone(work, Side.TARGET, "slot", work.names.reverse)
        _patiently(partial(replication.drop_slot, source, work.names.forward))
        _gone(work, Side.SOURCE, "slot", work.names.forward)
        losing = source if loser is Side.SOURCE else target
        if guard.state(losing, work.names) is not None:
            _patiently(partial(guard.drop_copy, losing, work.names, expected))
        for bucket in work.buckets:  # the loser's was dropped, the winner's is no copy any more
            _gone(work, Side.TARGET, "copy", bucket)
        for side, conn in ((Side.SOURCE, source), (Side.TARGET, target)):
            _patiently(partial(replication.unpublish, conn, work.names))
            _gone(work, side, "publication", work.names.publication)
            _patiently(partial(guard.retire, conn, work.names))
            _gone(work, side, "schema", work.names.schema)
    for file in work.archive.parent.glob("schema.*"):
        file.unlink()
    left = _leftovers(work, loser)
    if left:
        raise ForeshardError(
            f"Migration {work.lease.migration} left {len(left)} object(s) behind: {', '.join(left[:5])}.",
            remedy="The janitor tries again.",
            leftovers=left,
        )


def _leftovers(work: Work, loser: Side) -> list[str]:
    """What of the migration still stands on either shard, the loser's copies included; empty when all is gone."""
    with work.connections() as (source, target):
        found = [
            f"{shard.name}: {what}"
            for shard, conn in ((work.source, source), (work.target, target))
            for what in (
                *replication.objects_of(conn, work.names),
                *(["row in foreshard.sides"] if guard.state(conn, work.names) is not None else []),
            )
        ]
        losing = source if loser is Side.SOURCE else target
        copies = preflight_queries.schemas_present(losing, work.buckets) if _made_copies(work) else []
    return found + [f"{work.shard(loser).name}: schema {name}" for name in copies]


def _made_copies(work: Work) -> bool:
    """Whether `prepare` came as far as copies; if not, a bucket's schema on the target is somebody else's."""
    return any(resource.kind == "copy" for resource in work.store.resources(work.lease.migration))


def _gone(work: Work, side: Side, kind: str, name: str) -> None:
    work.store.resource_removed(work.lease, work.shard(side).name, kind, name)


def _patiently(step: Callable[[], object]) -> None:
    """Locks are asked for briefly and often, so that writers never queue behind us for long."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            step()
            return
        except (errors.LockNotAvailable, errors.ObjectInUse, errors.DeadlockDetected) as error:
            problem: psycopg.Error | ForeshardError = error
        except ForeshardError as error:
            problem = error
        time.sleep(random.uniform(0.05, 0.3) * min(attempt, 5))
    raise ForeshardError(
        f"Clean-up did not succeed in {ATTEMPTS} attempts: {problem}",
        remedy="Long transactions or a worker hold the objects; the janitor tries again.",
    )
