"""The suites as data: which expectation each table of the evidence must meet, at which checkpoint.

Only expectations that are built into Great Expectations: a class of one's own that is not imported in the gate's
process is silently dropped. How many must be evaluated follows from here, never from a result. Pure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from data_checks.scope import Checkpoint, Scope
from foreshard.postgres.catalog import Section
from foreshard.postgres.session_facts import DATABASE_FACTS, SESSION_FACTS


class Severity(StrEnum):
    """Critical failures stop the flip; warnings are shown to the person who approves it."""

    CRITICAL = "critical"
    WARNING = "warning"


@dataclass(frozen=True)
class Check:
    """One expectation. ``name`` says, in its suite uniquely, what should be; ``expectation`` is GX' class."""

    name: str
    expectation: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    severity: Severity = Severity.CRITICAL


@dataclass(frozen=True)
class Suite:
    """The checks of one table of the evidence."""

    table: str
    checks: tuple[Check, ...]


WHOLE_MIGRATION = frozenset({"sessions", "databases", "replication", "shadow_reads"})
"""Tables of the evidence that are about the migration, not about a bucket; their rows are counted instead."""


MAY_BE_EMPTY = frozenset(Section) - {Section.COLUMNS, Section.CONSTRAINTS, Section.INDEXES, Section.TABLES}
"""What a bucket need not have: no trigger, no view. Every table has a column, a key and its index."""

NO_REASON_TO_STOP = frozenset({Section.STORAGE, Section.COMMENTS, Section.PRIVILEGES})
"""Differences that lose no row and let none in that the other side would refuse: shown to the one who approves."""

HELD = "held"
OTHERWISE_JUDGED = "-"
"""How an own expectation came out, in the column of its severity; the other column holds the dash."""


def rows_table(table: str) -> str:
    """The evidence's table with the chunks of ``table``.

    SQLite does not tell upper case from lower, and Data Docs make files of the names: a hash tells odd ones apart.
    """
    plain = re.sub("[^a-z0-9_]+", "_", table.lower())
    return (
        f"rows_{plain}"
        if plain == table
        else f"rows_{plain}_{hashlib.sha256(table.encode()).hexdigest()[:8]}"
    )


def suites_for(scope: Scope) -> tuple[Suite, ...]:
    """All suites of the scope's checkpoint."""
    suites = _content_suites(scope)
    tables = [suite.table for suite in suites if suite.table not in WHOLE_MIGRATION]
    return (_collected(scope, tables), *suites)


def expected_count(scope: Scope) -> int:
    """How many expectations a run must have evaluated."""
    return sum(len(suite.checks) for suite in suites_for(scope))


def _content_suites(scope: Scope) -> tuple[Suite, ...]:
    rows = tuple(_rows(table, scope) for table in scope.tables)
    own = (_own_suites(scope),) if scope.own else ()
    match scope.checkpoint:
        case Checkpoint.BEFORE_COPY:
            return (_source_tables(scope), _target_leftovers(scope))
        case Checkpoint.BEFORE_CUTOVER:
            schema = tuple(_schema(section, scope) for section in Section)
            return (
                _sessions(),
                *rows,
                _differences(),
                *schema,
                _databases(),
                _sequences(),
                _replication(scope),
                _shadow_reads(),
                *own,
            )
        case Checkpoint.AFTER_CUTOVER:
            return (_sessions(), *rows, _differences(), _sequences(), _replication(scope), *own)


def _collected(scope: Scope, tables: list[str]) -> Suite:
    """That the collector visited every bucket for every table, also where there was nothing to write down."""
    return Suite(
        "collected",
        (
            _count("every bucket was looked at for every table", len(scope.buckets) * len(tables)),
            _unique("each bucket and table once", ["bucket", "item"]),
            _buckets(scope),
            _distinct("all tables of the evidence were written", "item", list(tables)),
        ),
    )


def _rows(table: str, scope: Scope) -> Suite:
    return Suite(
        rows_table(table),
        (
            _count("every chunk of every bucket was read", len(scope.buckets) * scope.chunks),
            _unique("each chunk once", ["bucket", "chunk"]),
            _buckets(scope),
            Check(
                "chunks are numbered from 0",
                "ExpectColumnValuesToBeBetween",
                {"column": "chunk", "min_value": 0, "max_value": scope.chunks - 1},
            ),
            _equal_pair("as many rows on both sides", "source_rows", "target_rows"),
            _equal_pair("the same rows on both sides", "source_digest", "target_digest"),
            _only("no row was written too often to be judged", "undecided", [0]),
        ),
    )


def _differences() -> Suite:
    return Suite("differences", (_only("no row differs", "kind", ["none"]),))


def _schema(section: Section, scope: Scope) -> Suite:
    severity = Severity.WARNING if section in NO_REASON_TO_STOP else Severity.CRITICAL
    equal = _equal_pair("defined alike on both sides", "source_definition", "target_definition", severity)
    if section in MAY_BE_EMPTY:
        return Suite(f"schema_{section}", (equal,))
    some = Check("there are some", "ExpectTableRowCountToBeBetween", {"min_value": 1})
    return Suite(f"schema_{section}", (some, _buckets(scope), equal))


def _sessions() -> Suite:
    """That the digests were made alike: a session that prints times in its own zone makes others of the same rows."""
    return Suite(
        "sessions",
        (
            _distinct("all that decides how a value prints", "setting", list(SESSION_FACTS)),
            _equal_pair("the source's sessions print as they should", "source_value", "wanted"),
            _equal_pair("the target's sessions print as they should", "target_value", "wanted"),
        ),
    )


def _databases() -> Suite:
    return Suite(
        "databases",
        (
            _distinct("all that decides how they order text", "item", list(DATABASE_FACTS)),
            _equal_pair("both databases order text alike", "source_value", "target_value", Severity.WARNING),
        ),
    )


def _sequences() -> Suite:
    return Suite(
        "sequences",
        (
            _not_null("the source's position is known", "source_position"),
            _not_null("the target's position is known", "target_position"),
            Check(
                "the target's sequences are ahead of the source's",
                "ExpectColumnPairValuesAToBeGreaterThanB",
                {
                    "column_A": "target_position",
                    "column_B": "source_position",
                    "or_equal": False,
                    "ignore_row_if": "neither",
                },
            ),
        ),
    )


def _replication(scope: Scope) -> Suite:
    return Suite(
        "replication",
        (
            _count("both directions are there", 2),
            _only("subscriptions are enabled", "enabled", [1]),
            _only("their workers run", "running", [1]),
            _only("every table is synchronised", "tables_not_ready", [0]),
            Check(
                "every table takes part",
                "ExpectColumnValuesToBeBetween",
                {"column": "tables", "min_value": len(scope.buckets) * len(scope.tables)},
            ),
            _only("slots are in use", "slot_active", [1]),
            _only("slots have all their WAL", "wal_status", ["reserved", "extended"]),
            _only("nothing failed to apply", "apply_errors", [0], Severity.WARNING),
            _only("no copy of a table failed", "sync_errors", [0], Severity.WARNING),
        ),
    )


def _shadow_reads() -> Suite:
    return Suite(
        "shadow_reads",
        (
            _count("they were counted", 1),
            _only("none gave another answer", "mismatches", [0]),
            _only("none failed", "failures", [0], Severity.WARNING),
            Check(
                "there were some",
                "ExpectColumnValuesToBeBetween",
                {"column": "reads", "min_value": 1},
                Severity.WARNING,
            ),
        ),
    )


def _source_tables(scope: Scope) -> Suite:
    return Suite(
        "source_tables",
        (
            _count("the buckets hold the plan's tables", len(scope.buckets) * len(scope.tables)),
            _unique("each table once", ["bucket", "item"]),
            _buckets(scope),
            _distinct("and no others", "item", list(scope.tables)),
            _only("they are tables, plain or partitioned", "kind", ["r", "p"]),
            _only("they are logged", "persistence", ["p"]),
            _only("no row is hidden from its owner", "forced_row_security", [0]),
            _only("each has a replica identity", "has_replica_identity", [1]),
        ),
    )


def _target_leftovers(scope: Scope) -> Suite:
    return Suite(
        "target_leftovers",
        (
            _count("the target was looked at for every bucket", len(scope.buckets)),
            _buckets(scope),
            _only("the target holds nothing of them", "relations", [0]),
        ),
    )


def own_items(scope: Scope) -> list[str]:
    """What the expectations of the team's own suites are called in the evidence, each on both sides."""
    return [
        f"{item} on the {side}"
        for suite in scope.own
        for item in suite.items
        for side in ("source", "target")
    ]


def _own_suites(scope: Scope) -> Suite:
    items = own_items(scope)
    return Suite(
        "own_suites",
        (
            _count("every expectation is there for every bucket", len(scope.buckets) * len(items)),
            _unique("each of them once", ["bucket", "item"]),
            _buckets(scope),
            _distinct("those of the files, and no others", "item", list(items)),
            _only("every one was evaluated", "evaluated", [1]),
            _only("the critical ones hold", "critical", [HELD, OTHERWISE_JUDGED]),
            _only("the others hold", "warning", [HELD, OTHERWISE_JUDGED], Severity.WARNING),
        ),
    )


def _count(name: str, rows: int) -> Check:
    return Check(name, "ExpectTableRowCountToEqual", {"value": rows})


def _unique(name: str, columns: list[str]) -> Check:
    return Check(name, "ExpectCompoundColumnsToBeUnique", {"column_list": columns})


def _buckets(scope: Scope) -> Check:
    return _distinct("all buckets of the plan, and no others", "bucket", list(scope.buckets))


def _distinct(name: str, column: str, values: list[object]) -> Check:
    return Check(name, "ExpectColumnDistinctValuesToEqualSet", {"column": column, "value_set": values})


def _equal_pair(name: str, source: str, target: str, severity: Severity = Severity.CRITICAL) -> Check:
    # "neither": a NULL on both sides must not be taken for equal.
    return Check(
        name,
        "ExpectColumnPairValuesToBeEqual",
        {"column_A": source, "column_B": target, "ignore_row_if": "neither"},
        severity,
    )


def _only(name: str, column: str, values: list[object], severity: Severity = Severity.CRITICAL) -> Check:
    return Check(name, "ExpectColumnValuesToBeInSet", {"column": column, "value_set": values}, severity)


def _not_null(name: str, column: str) -> Check:
    return Check(name, "ExpectColumnValuesToNotBeNull", {"column": column})
