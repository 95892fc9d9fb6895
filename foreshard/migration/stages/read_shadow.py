"""Read shadow: routers repeat a share of their reads on the target and compare; the source's answer is served."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from psycopg import sql

from foreshard.errors import DataMismatch
from foreshard.migration import streams
from foreshard.migration.headroom import HeadroomWatch
from foreshard.migration.progress import Progress, Report
from foreshard.migration.work import Work
from foreshard.postgres.guard import Side

POLL_S = 0.5


def run(work: Work, report: Report) -> dict[str, Any]:
    """Wait for enough shadow reads, or for the time limit: a bucket that nobody reads must not wait for ever.

    A fleet without a shadow role makes none: nothing is waited for, and the result says so.

    Raises:
        DataMismatch: a read gave different rows on both sides, and still did when it was looked at again.
        OutOfHeadroom: a server keeps too much WAL for this migration, or has too little disk left.
    """
    headroom = HeadroomWatch(work)
    if work.shadow_role is None:
        headroom.look(report)
        streams.check(work)
        return {**refuse_mismatch(work), "note": "no shadow role: no reads were repeated"}
    _permit(work, work.shadow_role)
    work.shadows.begin(work.lease, work.settings.shadow_percent)
    deadline = time.monotonic() + work.settings.shadow_timeout_s
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
        told = "".join(f"\n  {one}" for one in work.shadows.differences(work.lease.migration))
        raise DataMismatch(
            f"{totals.mismatches} of {totals.reads} shadow reads gave other rows on the two shards.{told}",
            remedy="Look at the differing rows before anything is moved; abort if they cannot be explained.",
            migration=work.lease.migration,
        )
    return asdict(totals)


def _permit(work: Work, role: str) -> None:
    """Markers are for the shadow role alone. Given here, where they begin to be placed: the functions are ours."""
    for side in Side:
        with work.connection(side, statement_timeout_s=60) as conn:
            conn.execute(
                sql.SQL(
                    "GRANT EXECUTE ON FUNCTION foreshard.place_marker, foreshard.has_marker TO {}"
                ).format(sql.Identifier(role))
            )
