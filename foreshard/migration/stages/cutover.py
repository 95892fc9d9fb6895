"""Cutover: the last flip. Afterwards all keys of the plan's buckets are owned by the target."""

from __future__ import annotations

from typing import Any

from foreshard.migration import head_start, streams
from foreshard.migration.progress import Report
from foreshard.migration.stages.read_shadow import refuse_mismatch
from foreshard.migration.work import Work
from foreshard.pgbouncer import handover
from foreshard.postgres.guard import Side
from foreshard.topology.keys import SLOTS


def run(work: Work, report: Report) -> dict[str, Any]:
    """Flip everything to the target.

    Raises:
        DataMismatch: a shadow read differed, or a sequence gave the same values out on both sides.
        GateRefused, ApprovalRequired: `flip` checks both itself.
        FlipFailed: ownership is as before; the step may be tried again.
    """
    del report
    streams.check(work)  # without a whole reverse stream there would be no way back
    refuse_mismatch(work)
    if work.record.bound:  # nobody watched while a person was asked
        head_start.keep_apart(work)
    head_start.give(work, opening=Side.TARGET)
    done = handover.flip_paused(work, SLOTS)
    handover.catch_up(work)
    work.store.set_routing(work.lease, shadow_percent=0.0)
    return {} if done is None else {"pause_ms": round(done.pause_ms, 3), "attempts": done.attempts}
