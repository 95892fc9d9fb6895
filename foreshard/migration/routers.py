"""Waiting for routers: until nobody believes a map that is older than an epoch."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from foreshard.control.router_store import RouterRecord
from foreshard.migration.progress import Progress, Report
from foreshard.migration.work import Work
from foreshard.quantities import SECONDS

logger = logging.getLogger(__name__)

POLL_S = 0.2
NAMED = 5
"""More than that are counted."""


def await_acknowledged(
    work: Work, epoch: int, report: Report | None = None, bound_s: float | None = None
) -> tuple[RouterRecord, ...]:
    """Wait until every live router has acknowledged ``epoch``, or its lease is over; ``bound_s`` at the longest.

    ``epoch`` is committed already: a router that registers from now on reads a map that has it. Without a bound it ends
    too: a router tells only what it has just read, so one that goes on telling acknowledges, and one that cannot read
    is silent. Returns those that were waited for in vain.

    Raises:
        LeaseLost: another runner took the migration over.
    """
    started = time.monotonic()
    first = True
    while waiting := work.routers.waiting_for(epoch):
        passed = time.monotonic() - started
        if bound_s is not None and passed >= bound_s:
            logger.warning("migration %s goes on without %s", work.lease.migration, named(waiting))
            return waiting
        work.store.renew(work.lease, work.lease_seconds)
        if first:
            logger.info("migration %s waits for %s", work.lease.migration, named(waiting))
            first = False
        if report is not None:
            total = bound_s if bound_s is not None else max(one.lease_s for one in waiting)
            report(Progress(f"waiting for {named(waiting)}", passed, total, SECONDS))
        time.sleep(POLL_S)
    return ()


def named(routers: Sequence[RouterRecord]) -> str:
    """Which routers, in words."""
    names = ", ".join(one.name for one in routers[:NAMED])
    more = len(routers) - NAMED
    return f"routers {names}" + (f" and {more} more" if more > 0 else "")
