"""Soak: the target serves everything, the source follows by the reverse stream; the way back stays open."""

from __future__ import annotations

import time
from typing import Any

from foreshard.migration import streams
from foreshard.migration.progress import Progress, Report
from foreshard.migration.work import Work

POLL_S = 1.0


def run(work: Work, report: Report) -> dict[str, Any]:
    """Watch both streams for ``soak_s`` seconds.

    Raises:
        StreamBroken: the reverse stream is not whole; a reversal would lose writes until it is mended.
    """
    total = work.settings.soak_s
    started = time.monotonic()
    while (passed := time.monotonic() - started) < total:
        lag = streams.check(work)
        report(Progress(f"soaking, reverse lag {lag.reverse_bytes or 0} bytes", passed, total, "s"))
        time.sleep(min(POLL_S, total - passed))
    return {"seconds": total}
