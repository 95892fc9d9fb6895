"""Names of suites and checkpoints in words. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from data_checks.suites import rows_table

_TITLES = {
    "collected": "What was collected",
    "differences": "Rows that differ",
    "own_suites": "Your own suites",
    "source_tables": "Tables of the source",
    "target_leftovers": "Left over on the target",
}


def suite_title(suite: str, tables: Iterable[str]) -> str:
    """``rows_flights`` is "Rows of flights", with the table's own name; ``tables`` are those of the scope."""
    for table in tables:
        if suite == rows_table(table):
            return f"Rows of {table}"
    return _TITLES.get(suite, in_words(suite.removeprefix("schema_")))


def in_words(name: str) -> str:
    """``before_cutover`` as "Before cutover"."""
    return name.replace("_", " ").capitalize()
