"""Catch up: the reverse stream is created, and both directions are brought within milliseconds of each other."""

from __future__ import annotations

import time
from typing import Any

from foreshard.errors import FlipFailed
from foreshard.migration import head_start, streams
from foreshard.migration.headroom import HeadroomWatch
from foreshard.migration.progress import Progress, Report
from foreshard.migration.work import Work
from foreshard.postgres import replication
from foreshard.postgres.guard import Side

SLOT_PATIENCE_S = 60.0
PATIENCE_S = 600.0
CLOSE_ENOUGH_MS = 250.0


def run(work: Work, report: Report) -> dict[str, Any]:
    """Create the reverse stream and move the sequences (before the target's first own write); wait until markers
    are fast both ways.

    Raises:
        StreamBroken: a stream does not apply.
        FlipFailed: the target does not catch up within ten minutes.
        OutOfHeadroom: a server keeps too much WAL for this migration, or has too little disk left.
    """
    with work.connections(SLOT_PATIENCE_S) as (source, target):
        work.store.record_resource(work.lease, work.source.name, "subscription", work.names.reverse)
        work.store.record_resource(work.lease, work.target.name, "slot", work.names.reverse)
        replication.drop_orphaned_slot(source, target, work.names.reverse)
        replication.subscribe(
            source, target, work.target.dsn, work.names, work.names.reverse, copy_data=False
        )
        start_lag = replication.slot_lag_bytes(source, work.names.forward) or 0
    # Before the first flip, not at the cutover: the checks before it want the target's sequences ahead.
    head_start.give(work, opening=Side.TARGET)
    deadline = time.monotonic() + PATIENCE_S
    headroom = HeadroomWatch(work)
    with work.marker_line(Side.SOURCE) as there, work.marker_line(Side.TARGET) as back:
        while True:
            headroom.look(report)
            lag = streams.check(work)
            behind = lag.forward_bytes or 0
            report(Progress("catching up", max(0, start_lag - behind), start_lag, "bytes"))
            try:
                slowest = max(
                    there.drain(work.settings.marker_timeout_s), back.drain(work.settings.marker_timeout_s)
                )
            except FlipFailed:
                if time.monotonic() > deadline:
                    raise
                continue
            if slowest <= CLOSE_ENOUGH_MS or time.monotonic() > deadline:
                return {"lag_ms": round(slowest, 1), "lag_bytes": behind}
