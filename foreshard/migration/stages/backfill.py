"""Backfill: copy the existing rows, bucket by bucket, by the subscription itself.

The copy runs on the servers: it goes on when this process dies, and the next one finds it where it is. A bucket
after another is added to the publication, which is also how the copy is throttled.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from psycopg import sql

from foreshard.errors import ForeshardError
from foreshard.migration import failpoint, removal, streams
from foreshard.migration.headroom import HeadroomWatch
from foreshard.migration.progress import Progress, Report
from foreshard.migration.work import Work
from foreshard.postgres import guard, preflight_queries, replication, schema_copy
from foreshard.postgres.connect import Connection
from foreshard.postgres.marker import MarkerLine

SLOT_PATIENCE_S = 60.0
"""The slot waits for every transaction on the source that has written."""

COPY_PATIENCE_S = 3600.0
POLL_S = 0.1


def run(work: Work, report: Report) -> dict[str, Any]:
    """Copy all tables, then build indexes, foreign keys and triggers.

    Raises:
        StreamBroken: a table's copy fails.
        OutOfHeadroom: a server keeps too much WAL for this migration, or has too little disk left.
        ForeshardError: a copy made no end within an hour.
    """
    streams.settle_failover(work)  # the source owns every key: it must not wait until the copy is made
    started = time.monotonic()
    copied = 0
    headroom = HeadroomWatch(work)
    with work.connections(SLOT_PATIENCE_S) as (source, target):
        for conn in (source, target):
            replication.end_backends(conn, work.application, work.lease.token)
        sizes = {bucket: preflight_queries.total_bytes(source, [bucket]) for bucket in work.buckets}
        work.store.record_resource(work.lease, work.target.name, "subscription", work.names.forward)
        work.store.record_resource(work.lease, work.source.name, "slot", work.names.forward)
        replication.drop_orphaned_slot(target, source, work.names.forward)
        replication.subscribe(
            target, source, work.source.dsn, work.names, work.names.forward, copy_data=True, enabled=False
        )
        sync_slots = replication.sync_slots(target, work.names.forward)
        if sync_slots is not None:
            work.store.record_resource(work.lease, work.source.name, removal.SYNC_SLOTS, sync_slots)
        replication.enable(target, work.names.forward)  # a runner may have died while it was paused, too
        markers = MarkerLine(source, target, work.names)
        for number, bucket in enumerate(work.buckets):
            if number == len(work.buckets) // 2:
                failpoint.hit("backfill", work.state_dir)
            headroom.await_room(report, partial(_alive, work, source, target, markers))
            new = _copy_bucket(work, bucket, source, target, markers, partial(headroom.look, report))
            copied += sizes[bucket]
            report(Progress("rows", copied, sum(sizes.values()), "bytes"))
            if new:
                _throttle(work, sizes[bucket], started, copied)
        headroom.look(report)
        replication.apply_asynchronously(target, work.names.forward)
        _restore_rest(work, source, target, report)
    return {"bytes": copied, "seconds": round(time.monotonic() - started, 3)}


def _copy_bucket(
    work: Work,
    bucket: str,
    source: Connection,
    target: Connection,
    markers: MarkerLine,
    look_at_headroom: Callable[[], object],
) -> bool:
    """Publish the bucket's tables and wait until all are copied. False if they had been before."""
    wanted = {(bucket, table) for table in work.tables}
    ready = _states(target, work, "r") & wanted
    if ready == wanted:
        return False
    replication.publish(source, work.names, sorted(wanted))
    if not wanted <= _states(target, work):
        replication.refresh(target, work.names.forward)
    deadline = time.monotonic() + COPY_PATIENCE_S
    while not wanted <= _states(target, work, "r"):
        if time.monotonic() > deadline:
            raise ForeshardError(
                f"The copy of {bucket} made no end.", remedy="Look at the target's server log."
            )
        look_at_headroom()
        _alive(work, source, target, markers)
        time.sleep(POLL_S)
    return True


def _alive(work: Work, source: Connection, target: Connection, markers: MarkerLine) -> None:
    streams.check_copy(work, source, target)
    markers.send()  # without traffic the apply worker would not notice that a copy is complete


def _states(target: Connection, work: Work, state: str | None = None) -> set[tuple[str, str]]:
    syncs = replication.table_syncs(target, work.names.forward)
    return {(sync.schema, sync.table) for sync in syncs if state is None or sync.state == state}


def _throttle(work: Work, size: int, started: float, copied: int) -> None:
    limit = work.settings.backfill_max_bytes_per_s
    if limit is not None:
        time.sleep(max(0.0, min(size / limit, copied / limit - (time.monotonic() - started))))


def _restore_rest(work: Work, source: Connection, target: Connection, report: Report) -> None:
    """Indexes, foreign keys, triggers: in one transaction, so either all are there or none."""
    wanted, there = (preflight_queries.secondary_objects(conn, work.buckets) for conn in (source, target))
    if wanted - there:
        report(Progress("indexes and foreign keys", 0, len(wanted), "objects"))
        copy = schema_copy.between(source, target, work.buckets, work.archive, work.session_name)
        if not work.archive.exists():  # prepared on another machine
            copy.dump(work.source.dsn)
        # The apply worker and ADD FOREIGN KEY lock the same two tables in opposite orders.
        with replication.paused(target, work.names.forward):
            copy.restore_after_data(target, work.target.dsn)
    for table, _ in guard.tables_of(work.buckets, work.tables):
        target.execute(sql.SQL("ANALYZE {}").format(table))
    report(Progress("indexes and foreign keys", len(wanted), len(wanted), "objects"))
