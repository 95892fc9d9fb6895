"""Write redirect: the target owns a small, growing share of the keys; one call is one canary step."""

from __future__ import annotations

import time
from typing import Any

from foreshard.migration import head_start, streams
from foreshard.migration.flip import flip
from foreshard.migration.progress import Progress, Report
from foreshard.migration.stages.read_shadow import refuse_mismatch
from foreshard.migration.work import Work
from foreshard.postgres import replication
from foreshard.postgres.guard import Side
from foreshard.topology.keys import SLOTS

POLL_S = 0.5


def bound_for(percent: float) -> int:
    """The bound at which the target owns ``percent`` of the slots: at least one, never all."""
    return min(SLOTS - 1, max(1, round(SLOTS * percent / 100)))


def run(work: Work, percent: float, report: Report) -> dict[str, Any]:
    """Flip to ``percent`` of the slots, then watch until enough writes were redirected or time is up.

    Raises:
        FlipFailed, StreamBroken, DataMismatch: what was found; the bound stays where it is.
    """
    before = _redirected(work)
    head_start.give(work, opening=Side.TARGET)
    done = flip(work, bound_for(percent))
    deadline = time.monotonic() + work.settings.canary_soak_s
    while True:
        streams.check(work)
        refuse_mismatch(work)
        redirected = _redirected(work) - before
        report(
            Progress(
                f"writes redirected at {percent:g} %", redirected, work.settings.canary_min_writes, "writes"
            )
        )
        if redirected >= work.settings.canary_min_writes or time.monotonic() > deadline:
            break
        time.sleep(POLL_S)
    return {
        "percent": percent,
        "bound": bound_for(percent),
        "pause_ms": None if done is None else round(done.pause_ms, 3),
        "redirected_transactions": redirected,
    }


def _redirected(work: Work) -> int:
    """Transactions that began on the target: those its reverse slot has sent (applied ones are filtered out)."""
    with work.connection(Side.TARGET) as target:
        return replication.transactions_sent(target, work.names.reverse)
