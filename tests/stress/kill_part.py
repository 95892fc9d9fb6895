"""Part "kills": the kill matrix, as a part of ``python -m tests.stress``."""

from __future__ import annotations

from tests.stress import kill_report
from tests.stress.kill_matrix import QUICK, Selection, run
from tests.stress.part import Context, PartResult


class Kills:
    """See `part.Part`. The whole matrix is for `tests.stress.kill_matrix`; this is what CI runs of it."""

    name = "kills"
    what = "no kill -9 of runner, source, target or control database at any step of a flip loses a write"

    def __init__(self, selection: Selection = QUICK) -> None:
        self._selection = selection

    def run(self, context: Context) -> PartResult:
        """The kills, one row each."""
        matrix = run(context.servers, self._selection, context.say)
        figures = {
            "kills": len(matrix.rows),
            "writes": matrix.writes,
            "table": kill_report.table(matrix.rows),
        }
        return PartResult(matrix.passed, figures, matrix.failures, {"rows": matrix.rows})
