"""A shard is failed over, or restored, in the middle of a migration: one owner again, and what is proven then.

Before the fact, standbys have what a flip needs (`expected_standbys`; the flip waits for them). After it the guard of
the promoted server refuses every write, since its timeline is another one. `settle` closes again: the bound of the
promoted side moves to the other side's, never past it, after the newest flip was cancelled on both. So no key has
two owners, even if the standby lacked a close.

What the promoted server lacks of a stream cannot be asked: the publisher's slot may have been confirmed further than
the standby was. Both streams therefore count as unproven until a comparison finds the keys that they carry equal. The
stream out of the promoted server begins anew if the standby had no slot for it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from foreshard.errors import FailedOver, FlipFailed
from foreshard.migration import serving
from foreshard.migration.comparison import compare_stream, described, differing
from foreshard.migration.lifecycle import PATH, Stage
from foreshard.migration.removal import drop_slots, subscription_on
from foreshard.migration.work import Work
from foreshard.postgres import guard, replication_slots, standbys, subscriptions
from foreshard.postgres.connect import Connection
from foreshard.postgres.guard import Side, SideState
from foreshard.topology.keys import SLOTS

logger = logging.getLogger(__name__)

GUARDED = PATH[PATH.index(Stage.BACKFILL) : PATH.index(Stage.FINALISE)]
"""Stages in which both sides must have a guard: prepare has ended, finalise has not begun."""

STREAMING = PATH[PATH.index(Stage.CATCH_UP) : PATH.index(Stage.FINALISE)]
"""Stages in which the copy is complete and streams are all that is needed."""

UNPROVEN = "unproven_streams"
"""Fact: the sides whose stream from the other one has not been compared since a failover."""

STANDBYS = "standbys"
"""Fact: by shard, the standbys that were seen."""


def noticed(work: Work) -> bool:
    """Whether a server is not the one any more on which its bound was written; changes nothing.

    Raises:
        ShardUnavailable: a shard does not answer.
    """
    with work.connections() as (source, target):
        states = [guard.state(conn, work.names) for conn in (source, target)]
    return any(state is not None and not (state.same_system and state.same_timeline) for state in states)


def settle(work: Work) -> None:
    """Find out whether a server is another one than before, and close again there. Idempotent.

    Raises:
        FailedOver: it is no successor of the server that the migration knew.
        ShardUnavailable: a shard does not answer.
    """
    with work.connections(statement_timeout_s=60) as (source, target):
        ends = {Side.SOURCE: source, Side.TARGET: target}
        states = {side: guard.state(conn, work.names) for side, conn in ends.items()}
        _refuse_strangers(work, states)
        found = {side: state for side, state in states.items() if state is not None}
        moved = [side for side, state in found.items() if not state.same_timeline]
        if moved == [Side.TARGET] and Side.SOURCE not in found and work.facts().get("finalising"):
            # The target owns everything, and the source's guard is gone already: there is nothing to ask there.
            guard.adopt_timeline(target, work.names, SLOTS, found[Side.TARGET].timeline)
            serving.ensure(work, target, Side.TARGET, SLOTS)
            return
        if not moved or len(found) < len(Side):
            return
        # If both moved: the one that opened last remembers more, so it is asked while the other one is closed again.
        moved.sort(key=lambda side: found[side].opened_flip)
        # Of the standbys that were seen one is the primary now; those of the new one are seen from now on.
        known = dict(work.facts().get(STANDBYS, {}))
        for side in moved:
            known.pop(work.shard(side).name, None)
        work.store.put_facts(work.lease, **{UNPROVEN: list(Side), STANDBYS: known})
        newest = work.record.flip_no
        for side in moved:
            _rebuild_stream(work, side, ends)
            for conn in ends.values():  # a late runner, or a late marker, opens nothing of it from here on
                guard.cancel(conn, work.names, newest)
            other = guard.state(ends[side.other], work.names)
            assert other is not None  # it was there a moment ago, and only the holder of the lease removes it
            bound = guard.adopt_timeline(ends[side], work.names, other.bound, found[side].timeline)
            serving.ensure(work, ends[side], side, bound)
            logger.warning(
                "migration %s: %s was failed over; it is closed again at bound %s",
                work.lease.migration,
                work.shard(side).name,
                bound,
            )


def prove(work: Work, opening: Side) -> None:
    """After a failover, before ``opening`` gets keys: the streams that this stands on are whole. Else nothing to do.

    Raising the bound stands on both, since the way back must stay open; lowering it on the one into the source alone.

    Raises:
        FailedOver: rows differ, or a stream does not run; which keys, and what is possible still.
    """
    unproven = set(work.facts().get(UNPROVEN, ()))
    if not unproven:
        return
    bound = work.bounds().target or 0
    carries = {Side.TARGET: range(bound, SLOTS), Side.SOURCE: range(bound)}
    for into in (Side.SOURCE, Side.TARGET) if opening is Side.TARGET else (Side.SOURCE,):
        if into in unproven:
            _prove(work, into, carries[into])
            unproven.discard(into)
            work.store.put_facts(work.lease, **{UNPROVEN: sorted(unproven)})


def prove_gap(work: Work, opening: Side) -> None:
    """Keys that a failed over server had opened and forgot: it has what the other side last accepted of them.

    Raises:
        FailedOver: it has not; the keys stay without owner.
    """
    if work.facts().get(UNPROVEN):
        bounds = work.bounds()
        _prove(work, opening, range(bounds.target or 0, bounds.source or 0))


def expected_standbys(work: Work, side: Side, conn: Connection) -> frozenset[str]:
    """Standbys of that side without which no flip counts: those that are configured, else all that were ever seen."""
    shard = work.shard(side).name
    named = work.settings.standbys.get(shard)
    if named is not None:
        return frozenset(named)
    known: Mapping[str, list[str]] = work.facts().get(STANDBYS, {})
    before = frozenset(known.get(shard, ()))
    now = before | standbys.seen(conn)
    if now != before:  # one that goes away without a slot is remembered
        work.store.put_facts(work.lease, **{STANDBYS: {**known, shard: sorted(now)}})
    return now


def _refuse_strangers(work: Work, states: Mapping[Side, SideState | None]) -> None:
    for side, state in states.items():
        shard = work.shard(side).name
        if state is None and work.record.stage in GUARDED:
            raise FailedOver(
                f"{shard} knows nothing of migration {work.lease.migration}.",
                remedy="It was restored from before the migration began. Stop writes to its buckets there; abort.",
                shard=shard,
            )
        if state is not None and not state.same_system:
            raise FailedOver(
                f"{shard} is another server than the one that migration {work.lease.migration} began with.",
                remedy="Its system identifier differs: correct the shard's DSN, or stop writes and ask for help.",
                shard=shard,
            )


def _rebuild_stream(work: Work, publishing: Side, ends: Mapping[Side, Connection]) -> None:
    """Where the promoted server lacks the slot that its other side reads from: a new stream, from now on.

    Nothing is written there meanwhile, since its guard refuses it, so the new stream misses nothing; what the old one
    had not brought yet is found by `prove`. A new subscription, not only a new slot: the old one would skip what the
    promoted server writes below the position that it had reached on the lost one.
    """
    subscriber, name = ends[publishing.other], subscription_on(work.names, publishing.other)
    # A slot without its subscription is what an attempt left that was cut off.
    whole = (
        replication_slots.serves(ends[publishing], name)
        and subscriptions.health(subscriber, name) is not None
    )
    if work.record.stage not in STREAMING or whole:
        return
    # A late runner must not take down a stream that another one has made.
    work.store.renew(work.lease, work.lease_seconds)
    subscriptions.unsubscribe(subscriber, name, publisher_gone=True)
    drop_slots(ends[publishing], work.names, publishing, ())
    subscriptions.subscribe(
        subscriber, ends[publishing], work.shard(publishing).dsn, work.names, name, copy_data=False
    )


def _prove(work: Work, into: Side, slots: range) -> None:
    shard = work.shard(into).name
    try:
        wrong = differing(compare_stream(work, into, slots))
    except FlipFailed as silent:
        raise FailedOver(
            f"After a failover nothing arrives on {shard}: {silent.message}",
            remedy=_way_out(into),
            shard=shard,
        ) from silent
    if wrong:
        raise FailedOver(
            f"After a failover {shard} lacks rows or has others: first {wrong[0].bucket}.{wrong[0].table}.",
            remedy=_way_out(into),
            shard=shard,
            tables=described(wrong),
        )


def _way_out(into: Side) -> str:
    return (
        "Abort or reverse: the source's copy does not depend on it."
        if into is Side.TARGET
        else "Going back would lose what the target accepted: mend the rows on the source first "
        "(`foreshard check repair`), or bring it back."
    )
