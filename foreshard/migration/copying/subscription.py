"""Rows by the subscription itself, bucket by bucket.

The copy runs on the servers: it goes on when this process dies, and the next one finds it where it is. A bucket
after another is added to the publication, which is also how the copy is throttled. Changes to what is copied already
are applied meanwhile, so tables have their keys before their rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from foreshard.errors import ForeshardError
from foreshard.migration import failpoint, removal, streams
from foreshard.migration.copying.result import Copied
from foreshard.migration.headroom import HeadroomWatch
from foreshard.migration.progress import Part, Progress, Report
from foreshard.migration.work import Work
from foreshard.postgres import block_ranges, publications, subscriptions
from foreshard.postgres.connect import Connection
from foreshard.postgres.marker import MarkerLine

COPY_PATIENCE_S = 3600.0
POLL_S = 0.1
TELL_S = 0.5


def copy(work: Work, source: Connection, target: Connection, report: Report) -> Copied:
    """Create the subscription and wait until it has copied all tables.

    Raises:
        StreamBroken: a table's copy fails.
        OutOfHeadroom: a server keeps too much WAL for this migration, or has too little disk left.
        ForeshardError: a copy made no end within an hour.
    """
    started = time.monotonic()
    throttled_s, headroom = 0.0, HeadroomWatch(work)
    again = subscriptions.health(target, work.names.forward) is not None
    tables: dict[str, int] = {}
    for leaf in block_ranges.leaves(source, work.buckets, list(work.tables)):
        name = f"{leaf.bucket}.{leaf.table}"
        tables[name] = tables.get(name, 0) + leaf.bytes
    _subscribe(work, source, target)
    markers = MarkerLine(source, target, work.names)
    copied: set[str] = set()
    told = started

    def tell() -> None:
        elapsed = time.monotonic() - started
        parts = tuple(Part(name, size if name in copied else 0, size) for name, size in tables.items())
        done = sum(part.done for part in parts)
        report(Progress("rows", done, sum(tables.values()), "bytes", done / elapsed if done else None, parts))

    for number, bucket in enumerate(work.buckets):
        if number == len(work.buckets) // 2:
            failpoint.hit("backfill", work.state_dir)
        headroom.await_room(report, partial(_alive, work, source, target, markers))

        def look() -> None:
            nonlocal told
            headroom.look(report)
            if time.monotonic() - told > TELL_S:  # where nothing is new, too: here the copy may be held
                told = time.monotonic()
                tell()

        new = _copy_bucket(work, bucket, source, target, markers, look)
        names = {f"{bucket}.{table}" for table in work.tables}
        copied |= names
        tell()
        if new:
            size, all_bytes = (sum(tables[name] for name in some & tables.keys()) for some in (names, copied))
            throttled_s += _throttle(work, size, started, all_bytes, look)
    headroom.look(report)
    subscriptions.apply_asynchronously(target, work.names.forward)
    health = subscriptions.health(target, work.names.forward)
    return Copied(
        bytes=sum(tables.values()),
        rows=None,
        seconds=time.monotonic() - started,
        throttled_s=throttled_s,
        interrupted=again or (health is not None and health.sync_errors > 0),
    )


def _subscribe(work: Work, source: Connection, target: Connection) -> None:
    work.store.record_resource(work.lease, work.target.name, "subscription", work.names.forward)
    work.store.record_resource(work.lease, work.source.name, "slot", work.names.forward)
    subscriptions.drop_orphaned_slot(target, source, work.names.forward)
    subscriptions.subscribe(
        target, source, work.source.dsn, work.names, work.names.forward, copy_data=True, enabled=False
    )
    sync_slots = subscriptions.sync_slots(target, work.names.forward)
    if sync_slots is not None:
        work.store.record_resource(work.lease, work.source.name, removal.SYNC_SLOTS, sync_slots)
    subscriptions.enable(target, work.names.forward)  # a runner may have died while it was paused, too


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
    publications.add(source, work.names, sorted(wanted))
    if not wanted <= _states(target, work):
        subscriptions.refresh(target, work.names.forward)
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
    syncs = subscriptions.table_syncs(target, work.names.forward)
    return {(sync.schema, sync.table) for sync in syncs if state is None or sync.state == state}


def _throttle(work: Work, size: int, started: float, copied: int, look: Callable[[], object]) -> float:
    """Wait until the limit allows the next bucket; returns the seconds."""
    limit = work.settings.backfill_max_bytes_per_s
    if limit is None:
        return 0.0
    wait_s = max(0.0, min(size / limit, copied / limit - (time.monotonic() - started)))
    until = time.monotonic() + wait_s
    while (left := until - time.monotonic()) > 0:
        look()
        time.sleep(min(left, POLL_S))
    return wait_s
