"""Read shadow: routers repeat a share of their reads on the target and compare; the source's answer is served."""

from __future__ import annotations

import time
from typing import Any

from foreshard.errors import DataMismatch
from foreshard.migration import streams
from foreshard.migration.headroom import HeadroomWatch
from foreshard.migration.progress import Progress, Report
from foreshard.migration.work import Work

POLL_S = 0.5


def run(work: Work, report: Report) -> dict[str, Any]:
    """Wait for enough shadow reads, or for the time limit: a bucket that nobody reads must not wait for ever.

    Raises:
        DataMismatch: a read gave different rows on both sides, and still did when it was looked at again.
        OutOfHeadroom: a server keeps too much WAL for this migration, or has too little disk left.
    """
    work.store.set_routing(work.lease, shadow_percent=work.settings.shadow_percent)
    deadline = time.monotonic() + work.settings.shadow_timeout_s
    headroom = HeadroomWatch(work)
    while True:
        headroom.look(report)
        streams.check(work)
        totals = refuse_mismatch(work)
        report(Progress("shadow reads", totals["reads"], work.settings.shadow_min_reads, "reads"))
        if totals["reads"] >= work.settings.shadow_min_reads or time.monotonic() > deadline:
            return totals
        time.sleep(POLL_S)


def refuse_mismatch(work: Work) -> dict[str, int]:
    """Shadow reads so far.

    Raises:
        DataMismatch: one of them was a mismatch (not mere lag).
    """
    totals = work.shadows.totals(work.lease.migration)
    if totals.mismatches:
        raise DataMismatch(
            f"{totals.mismatches} of {totals.reads} shadow reads gave other rows on {work.target.name}.",
            remedy="Look at the differing rows before anything is moved; abort if they cannot be explained.",
            migration=work.lease.migration,
        )
    return dict(totals.__dict__)
