"""Removes what a migration made on both shards: streams, publications, guards, and one side's copy.

Used by finalise (the source's copy goes) and by abort and reverse (the target's). Every step is idempotent and asks
the shard first, so it may be run again after a crash. With one shard gone for good the other is cleaned alone: what
stands on the lost one stays recorded, and the janitor removes it should that shard ever answer again.
"""

from __future__ import annotations

from contextlib import ExitStack

from foreshard.errors import ForeshardError
from foreshard.migration import removal, serving
from foreshard.migration.work import Work
from foreshard.postgres import backends, guard, migration_objects, preflight_queries
from foreshard.postgres.connect import Connection
from foreshard.postgres.guard import Side
from foreshard.topology.keys import SLOTS


def run(work: Work, loser: Side, without: Side | None = None) -> list[str]:
    """Drop the streams first (never empty a side that a subscription reads), then ``loser``'s copy, then the guards.

    The shard itself checks that the loser owns nothing (`foreshard.drop_copy`). ``without`` is the loser if it does
    not answer: the caller has made sure that it owns nothing and never will. Returns what is left on it, as recorded.

    Raises:
        ForeshardError: something is still in use after many attempts, or left at the end, or the loser owns keys.
    """
    if without is loser.other:
        raise ForeshardError(f"The {without} owns the keys: it cannot be left out.")
    living = [side for side in Side if side is not without]
    with ExitStack() as stack:
        ends = {side: stack.enter_context(work.connection(side, statement_timeout_s=60)) for side in living}
        for conn in ends.values():
            backends.end_replaced(conn, work.application, work.lease.token)
            backends.end_comparisons(conn, work.names, work.buckets)
            removal.lock_briefly(conn)
        for side, conn in ends.items():
            removal.drop_subscription(conn, work.names, side, publisher_gone=without is side.other)
            _gone(work, side, "subscription", removal.subscription_on(work.names, side))
        for side, conn in reversed(ends.items()):
            sync_slots = _recorded(work, side, removal.SYNC_SLOTS)
            removal.drop_slots(conn, work.names, side, sync_slots)
            _gone(work, side, "slot", removal.slot_on(work.names, side))
            for name in sync_slots:
                _gone(work, side, removal.SYNC_SLOTS, name)
        if loser.other in ends:
            serving.settle(work, ends[loser.other])
        if loser in ends:
            removal.drop_copy(ends[loser], work.names, SLOTS if loser is Side.SOURCE else 0)
        for side, conn in ends.items():
            for bucket in work.buckets:  # the loser's was dropped, the winner's is no copy any more
                _gone(work, side, "copy", bucket)
            removal.retire(conn, work.names)
            _gone(work, side, "publication", work.names.publication)
            _gone(work, side, "schema", work.names.schema)
        left = _leftovers(work, ends, loser)
    for file in work.archive.parent.glob("schema.*"):
        file.unlink()
    if left:
        raise ForeshardError(
            f"Migration {work.lease.migration} left {len(left)} object(s) behind: {', '.join(left[:5])}.",
            remedy="The janitor tries again.",
            leftovers=left,
        )
    return [f"{kind} {name}" for kind, name in _unremoved(work, without)] if without is not None else []


def _leftovers(work: Work, ends: dict[Side, Connection], loser: Side) -> list[str]:
    """What of the migration still stands on the shards, the loser's copies included; empty when all is gone."""
    found = [
        f"{work.shard(side).name}: {what}"
        for side, conn in ends.items()
        for what in (
            *migration_objects.of_migration(conn, work.names),
            *(["row in foreshard.sides"] if guard.state(conn, work.names) is not None else []),
        )
    ]
    if loser not in ends or not _made_copies(work):
        return found
    copies = preflight_queries.schemas_present(ends[loser], work.buckets)
    return found + [f"{work.shard(loser).name}: schema {name}" for name in copies]


def _made_copies(work: Work) -> bool:
    """Whether `prepare` came as far as copies; if not, a bucket's schema on the target is somebody else's."""
    return any(resource.kind == "copy" for resource in work.store.resources(work.lease.migration))


def _recorded(work: Work, side: Side, kind: str) -> list[str]:
    return [name for one, name in _unremoved(work, side) if one == kind]


def _unremoved(work: Work, side: Side) -> list[tuple[str, str]]:
    return [
        (resource.kind, resource.name)
        for resource in work.store.resources(work.lease.migration)
        if resource.shard == work.shard(side).name and resource.removed_at is None
    ]


def _gone(work: Work, side: Side, kind: str, name: str) -> None:
    work.store.resource_removed(work.lease, work.shard(side).name, kind, name)
