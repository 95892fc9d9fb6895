"""Soak: the target serves everything, the source follows by the reverse stream; the way back stays open."""

from __future__ import annotations

import time
from typing import Any

from foreshard.migration import verification, way_back
from foreshard.migration.headroom import HeadroomWatch
from foreshard.migration.progress import Progress, Report
from foreshard.migration.work import Work
from foreshard.quantities import size

POLL_S = 1.0


def run(work: Work, report: Report) -> dict[str, Any]:
    """Watch the reverse stream for ``soak_s`` seconds.

    Raises:
        StreamBroken: the reverse stream is not whole; a reversal would lose writes until it is mended.
        OutOfHeadroom: a server keeps too much WAL for this migration, or has too little disk left.
        VerificationFailed: a verification failed, and none since has passed. Here it can be reversed still.
    """
    total = work.settings.soak_s
    started = time.monotonic()
    headroom = HeadroomWatch(work)
    while (passed := time.monotonic() - started) < total:
        headroom.look(report)
        behind = way_back.check(work)
        report(Progress(f"soaking, reverse lag {size(behind)}", passed, total, "s"))
        time.sleep(min(POLL_S, total - passed))
    verification.refuse_failed(work)
    return {"seconds": total}
