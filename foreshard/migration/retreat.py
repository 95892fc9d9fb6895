"""The way back: abort (before the cutover) and reverse (after it). Both fence, drain, and leave the source as owner."""

from __future__ import annotations

from typing import Any

from foreshard.migration import head_start, streams, teardown
from foreshard.migration.flip import finish_interrupted, flip
from foreshard.migration.progress import Report
from foreshard.migration.work import Work
from foreshard.postgres.guard import Side


def run(work: Work, report: Report) -> dict[str, Any]:
    """Give every key back to the source, then remove the target's copy and all objects.

    Raises:
        StreamBroken: the target owns keys and its changes do not reach the source: going back now would lose writes.
        FlipFailed, ForeshardError: what stood in the way; may be tried again.
    """
    del report
    work.store.set_routing(work.lease, shadow_percent=0.0)
    finish_interrupted(work)
    bounds = work.bounds()
    pause_ms = None
    if bounds.source or bounds.target:
        streams.check_way_back(work)
        head_start.give(work, opening=Side.SOURCE)
        done = flip(work, 0)
        pause_ms = None if done is None else round(done.pause_ms, 3)
    teardown.run(work, loser=Side.TARGET)
    return {"pause_ms": pause_ms, "leftovers": 0}
