"""Verify: every chunk of every table has the same rows on both sides, while both are being written."""

from __future__ import annotations

import time
from typing import Any

from foreshard.errors import DataMismatch
from foreshard.migration import streams
from foreshard.migration.comparison import compare_all, described, differing
from foreshard.migration.progress import Part, Progress, Report
from foreshard.migration.work import Work
from foreshard.postgres.digests import TableProgress

REPORT_EVERY_S = 0.25
"""There may be thousands of tables, and every report names them all."""


def run(work: Work, report: Report) -> dict[str, Any]:
    """Compare all tables.

    Raises:
        DataMismatch: rows differ, or were written too often to be judged; ``details`` name tables and keys.
    """
    streams.check(work)
    started = time.monotonic()
    reporting = _Reporting(report, started)
    compared = compare_all(work, reporting)
    reporting.report()
    seconds = time.monotonic() - started
    wrong = differing(compared)
    if wrong:
        raise DataMismatch(
            f"{len(wrong)} table(s) differ between {work.source.name} and {work.target.name}, "
            f"first {wrong[0].bucket}.{wrong[0].table}.",
            remedy=f"`foreshard check diff {work.lease.migration}` shows the rows, `foreshard check repair` mends the "
            "copy. Or abort the migration; nothing was moved yet.",
            tables=described(wrong),
        )
    size = sum(c.bytes for c in compared)
    return {
        "tables": len(compared),
        "rows": sum(c.rows for c in compared),
        "bytes": size,
        "seconds": round(seconds, 3),
        "bytes_per_s": round(size / seconds),
        "rechecked_chunks": sum(c.rechecked for c in compared),
        "rechecked_rows": sum(c.rechecked_rows for c in compared),
        "fence_ms": round(sum(c.fence_ms for c in compared), 3),
    }


class _Reporting:
    """Makes the step's progress of what is told of single tables, a part for each."""

    def __init__(self, report: Report, started: float) -> None:
        self._report, self._started = report, started
        self._parts: dict[str, Part] = {}
        self._next = started + REPORT_EVERY_S

    def __call__(self, table: TableProgress) -> None:
        name = f"{table.bucket}.{table.table}"
        self._parts[name] = Part(name, table.done, table.total, table.rows)
        if time.monotonic() >= self._next:
            self.report()

    def report(self) -> None:
        """As it stands now."""
        now = time.monotonic()
        self._next = now + REPORT_EVERY_S
        parts = tuple(self._parts.values())
        done, total = sum(part.done for part in parts), sum(part.total for part in parts)
        rate = done / (now - self._started) if done else None
        self._report(Progress("tables compared", done, total, "bytes", rate, parts))
