"""Backfill: copy the existing rows, then make what comes after them: keys, indexes, foreign keys, triggers."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import Any

from foreshard.migration import arming, streams
from foreshard.migration.copying import after_data, pipe, subscription, upkeep
from foreshard.migration.copying.method import Method
from foreshard.migration.copying.result import Copied
from foreshard.migration.progress import Report
from foreshard.migration.stages.prepare import METHOD
from foreshard.migration.work import Work
from foreshard.postgres import backends, publications, subscriptions
from foreshard.postgres.connect import NOTICE_OUR_END, Connection

STATEMENT_TIMEOUT_S = 60.0
"""Of the two connections that look and arrange; the slot, too, waits no longer for writers of the source."""


def run(work: Work, report: Report) -> dict[str, Any]:
    """Copy all tables; build what comes after the data; guard the copy as a side that may be opened.

    Raises:
        StreamBroken: a table's copy fails.
        OutOfHeadroom: a server keeps too much WAL for this migration, or has too little disk left.
        LeaseLost: another runner copies.
        ForeshardError: the rows, or the definitions after them, could not be copied.
    """
    streams.settle_failover(work)  # the source owns every key: it must not wait until the copy is made
    started = time.monotonic()
    method = Method(work.facts().get(METHOD, Method.SUBSCRIPTION))
    with work.connections(STATEMENT_TIMEOUT_S) as (source, target):
        for conn in (source, target):
            backends.end_replaced(conn, work.application, work.lease.token)
            conn.execute(NOTICE_OUR_END)
        copy = pipe.copy if method is Method.PIPE else subscription.copy
        copied = copy(work, source, target, report)
        compacted = _make_the_rest(work, source, target, method, copied, report)
        made = time.monotonic()
        arming.arm(work, target, report, serving=False)
        # Only now: PostgreSQL refuses changes of a published table without a key, before our guard can say why.
        tables = [(bucket, table) for bucket in work.buckets for table in work.tables]
        publications.add(target, work.names, tables)
        if method is Method.PIPE:
            work.store.record_resource(work.lease, work.target.name, "subscription", work.names.forward)
            subscriptions.subscribe(
                target, source, work.source.dsn, work.names, work.names.forward, copy_data=False
            )
            subscriptions.enable(target, work.names.forward)
    return {
        "method": method.value,
        "bytes": copied.bytes,
        **({} if copied.rows is None else {"rows": copied.rows}),
        "copy_seconds": round(copied.seconds, 3),
        "index_seconds": round(made - started - copied.seconds, 3),
        "throttled_s": round(copied.throttled_s, 3),
        **({"compacted": compacted} if compacted else {}),
        "seconds": round(time.monotonic() - started, 3),
    }


def _make_the_rest(
    work: Work, source: Connection, target: Connection, method: Method, copied: Copied, report: Report
) -> list[str]:
    """Nothing is applied meanwhile. Returns the tables that had to be compacted first."""
    subscribed = subscriptions.health(target, work.names.forward) is not None
    if method is Method.PIPE and subscribed:
        return []  # the subscription came after everything else
    if method is Method.SUBSCRIPTION and not after_data.missing(work, source, target):
        return []
    compacted: list[str] = []
    with subscriptions.paused(target, work.names.forward) if subscribed else nullcontext():
        if copied.interrupted:
            compacted = upkeep.compact(work, report)
        after_data.make(work, source, target, method, report)
    upkeep.analyse(work, report)
    return compacted
