"""The way back: abort (before the cutover) and reverse (after it). Both fence, drain, and leave the source as owner.

A target that does not answer can be left out if the source's bound is 0: since the target's bound is never above the
source's, the target owns nothing then, and the source may be cleaned alone.
"""

from __future__ import annotations

import logging
from typing import Any

from foreshard.errors import FailedOver, ShardUnavailable
from foreshard.migration import head_start, teardown, way_back
from foreshard.migration.flip import finish_interrupted
from foreshard.migration.progress import Report
from foreshard.migration.work import Work
from foreshard.pgbouncer import handover
from foreshard.postgres import guard
from foreshard.postgres.guard import Side

logger = logging.getLogger(__name__)


def validate(work: Work) -> None:
    """Whether the way back is open; asked before the stage changes, since nothing follows a retreat but its end.

    Raises:
        StreamBroken: the target owns keys and its changes do not reach the source: going back would lose writes.
        ShardUnavailable: the source does not answer; or the target does not, and owns keys.
        FailedOver: the target does not answer, and the source is not the server any more that knew its bound.
    """
    if not work.answers(Side.TARGET):
        with work.connection(Side.SOURCE) as source:
            _refuse_to_lose(work, guard.state(source, work.names))
        return
    bounds = work.bounds()
    if bounds.source or bounds.target:
        way_back.check(work)


def run(work: Work, report: Report) -> dict[str, Any]:
    """Give every key back to the source, then remove the target's copy and all objects.

    Raises:
        StreamBroken, ShardUnavailable, FailedOver: as `validate`.
        FlipFailed, ForeshardError: what stood in the way; may be tried again.
    """
    del report
    work.store.set_routing(work.lease, shadow_percent=0.0)
    if not work.answers(Side.TARGET):
        return _without_target(work)
    finish_interrupted(work)
    bounds = work.bounds()
    pause_ms = None
    if bounds.source or bounds.target:
        way_back.check(work)
        head_start.give(work, opening=Side.SOURCE)
        done = handover.flip_paused(work, 0)
        pause_ms = None if done is None else round(done.pause_ms, 3)
    handover.catch_up(work)  # no alias may lead to a copy that is dropped
    teardown.run(work, loser=Side.TARGET)
    return {"pause_ms": pause_ms, "leftovers": 0}


def _without_target(work: Work) -> dict[str, Any]:
    """Clean the source alone.

    A flip that a runner has journalled could still be closed on the source by that runner, if it is merely late, and
    then be opened by a target that only we cannot reach. So the source promises first never to close it (`cancel`);
    no other flip can be begun, as the lease is ours. Only then its bound, still 0, means what we take it for.
    """
    unfinished = work.flips.unfinished(work.lease.migration)
    with work.connection(Side.SOURCE) as source:
        state = guard.state(source, work.names)
        _refuse_to_lose(work, state)
        if state is not None and unfinished is not None:
            guard.cancel(source, work.names, unfinished.flip_no)
            _refuse_to_lose(work, guard.state(source, work.names))  # it was faster
    if unfinished is not None:
        work.flips.record(work.lease, unfinished.flip_no, "cancelled")
    if work.record.bound:
        work.store.set_routing(work.lease, bound=0)
    left = teardown.run(work, loser=Side.TARGET, without=Side.TARGET)
    note = f"{work.target.name} does not answer and owns nothing: what stands there is left to the janitor"
    logger.warning("migration %s: %s: %s", work.lease.migration, note, ", ".join(left) or "nothing recorded")
    return {"pause_ms": None, "leftovers": len(left), "note": note, "left_to_the_janitor": left}


def _refuse_to_lose(work: Work, source: guard.SideState | None) -> None:
    if source is not None and not (source.same_system and source.same_timeline):
        raise FailedOver(
            f"{work.source.name} was failed over or restored and {work.target.name} does not answer: nobody can say "
            "how far the target's ownership reaches.",
            remedy=f"Bring {work.target.name} back, then try again.",
            shard=work.source.name,
            migration=work.lease.migration,
        )
    if source is not None and source.bound:
        raise ShardUnavailable(
            f"{work.target.name} does not answer and owns slots below {source.bound} of 1024: what it accepted for "
            "them would be lost by going back now.",
            remedy=f"Bring {work.target.name} back (or promote its standby), then try again.",
            shard=work.target.name,
            migration=work.lease.migration,
            bound=source.bound,
        )
