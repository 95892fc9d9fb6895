"""Verify: every chunk of every table has the same rows on both sides, while both are being written."""

from __future__ import annotations

from typing import Any

from foreshard.errors import DataMismatch
from foreshard.migration import streams
from foreshard.migration.comparison import compare_all, described, differing, tables_of
from foreshard.migration.progress import Progress, Report
from foreshard.migration.work import Work
from foreshard.postgres.digests import TableComparison


def run(work: Work, report: Report) -> dict[str, Any]:
    """Compare all tables.

    Raises:
        DataMismatch: rows differ, or were written too often to be judged; ``details`` name tables and keys.
    """
    streams.check(work)
    total = len(tables_of(work))
    finished: list[TableComparison] = []

    def progress(comparison: TableComparison) -> None:
        finished.append(comparison)
        report(Progress("tables compared", len(finished), total, "tables"))

    compared = compare_all(work, progress)
    wrong = differing(compared)
    if wrong:
        raise DataMismatch(
            f"{len(wrong)} table(s) differ between {work.source.name} and {work.target.name}, "
            f"first {wrong[0].bucket}.{wrong[0].table}.",
            remedy="Abort the migration; nothing was moved yet.",
            tables=described(wrong),
        )
    return {
        "tables": len(compared),
        "rows": sum(c.rows for c in compared),
        "bytes": sum(c.bytes for c in compared),
        "rechecked_chunks": sum(c.rechecked for c in compared),
    }
