"""Catch up: the reverse stream is created, and both directions are brought within milliseconds of each other."""

from __future__ import annotations

import time
from typing import Any

from foreshard.errors import FlipFailed, ForeshardError
from foreshard.migration import head_start, streams
from foreshard.migration.headroom import HeadroomWatch
from foreshard.migration.progress import Progress, Report
from foreshard.migration.work import Work
from foreshard.postgres import guard, replication_slots, subscriptions
from foreshard.postgres.connect import Connection
from foreshard.postgres.guard import Side

SLOT_PATIENCE_S = 60.0
PATIENCE_S = 600.0
CLOSE_ENOUGH_MS = 250.0


def run(work: Work, report: Report) -> dict[str, Any]:
    """Create the reverse stream and move the sequences (before the target's first own write); wait until markers
    are fast both ways.

    Raises:
        StreamBroken: a stream does not apply.
        FlipFailed: nothing more was applied for ten minutes.
        ForeshardError: a table of the target has no guard.
        OutOfHeadroom: a server keeps too much WAL for this migration, or has too little disk left.
    """
    with work.connections(SLOT_PATIENCE_S) as (source, target):
        work.store.record_resource(work.lease, work.source.name, "subscription", work.names.reverse)
        work.store.record_resource(work.lease, work.target.name, "slot", work.names.reverse)
        subscriptions.drop_orphaned_slot(source, target, work.names.reverse)
        subscriptions.subscribe(
            source, target, work.target.dsn, work.names, work.names.reverse, copy_data=False
        )
        _refuse_unguarded(work, target)
        start_lag = replication_slots.lag_bytes(source, work.names.forward) or 0
    started = time.monotonic()
    # Before the first flip, not at the cutover: the checks before it want the target's sequences ahead.
    head_start.give(work, opening=Side.TARGET)
    deadline, least = started + PATIENCE_S, start_lag
    headroom = HeadroomWatch(work)
    with work.marker_line(Side.SOURCE) as there, work.marker_line(Side.TARGET) as back:
        while True:
            headroom.look(report)
            lag = streams.check(work)
            behind = lag.forward_bytes or 0
            now = time.monotonic()
            caught_up = max(0, start_lag - behind)
            report(
                Progress("catching up", caught_up, start_lag, "bytes", caught_up / (now - started) or None)
            )
            if behind < least:
                deadline, least = now + PATIENCE_S, behind
            try:
                slowest = max(
                    there.drain(work.settings.marker_timeout_s), back.drain(work.settings.marker_timeout_s)
                )
            except FlipFailed:
                if time.monotonic() > deadline:
                    raise
                continue
            if slowest <= CLOSE_ENOUGH_MS or time.monotonic() > deadline:
                return {
                    "lag_ms": round(slowest, 1),
                    "lag_bytes": behind,
                    "caught_up_bytes": caught_up,
                    "seconds": round(time.monotonic() - started, 3),
                }


def _refuse_unguarded(work: Work, target: Connection) -> None:
    """From here on the target may come to own keys."""
    wanted = {(bucket, table) for bucket in work.buckets for table in work.tables}
    unguarded = sorted(wanted - guard.armed(target, work.buckets))
    if unguarded:
        raise ForeshardError(
            f"{len(unguarded)} table(s) of {work.target.name} have no guard, first {'.'.join(unguarded[0])}.",
            remedy="Somebody dropped it; abort the migration.",
        )
