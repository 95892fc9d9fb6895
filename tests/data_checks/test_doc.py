"""docs/data-checks.md lists the suites that there are."""

from __future__ import annotations

from pathlib import Path

from data_checks.scope import Checkpoint, Scope
from data_checks.suites import Check, Severity, suites_for

PAGE = Path(__file__).parents[2] / "docs" / "data-checks.md"


def rows() -> list[str]:
    """The table of suites, in the order in which they come first."""
    found: dict[str, tuple[list[str], tuple[Check, ...]]] = {}
    for checkpoint in Checkpoint:
        for suite in suites_for(Scope(1, 1, "m", checkpoint, ("b",), ("table",), 16)):
            table = suite.table.replace("rows_table", "rows_TABLE")
            found.setdefault(table, ([], suite.checks))[0].append(f"`{checkpoint}`")
    return [
        f"| `{table}` | {', '.join(when)} | {'; '.join(map(_named, checks))} |"
        for table, (when, checks) in found.items()
    ]


def _named(check: Check) -> str:
    return f"*{check.name}*" if check.severity is Severity.WARNING else check.name


def test_the_page_lists_every_suite() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert "\n".join(rows()) in page, "\n".join(["the page should list:", *rows()])
