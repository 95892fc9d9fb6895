"""Evidence without servers: what a collector would have written about two equal copies."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from data_checks.evidence import EvidenceWriter
from data_checks.scope import Checkpoint, Scope
from data_checks.suites import MAY_BE_EMPTY, own_items, rows_table
from foreshard.postgres.catalog import Section
from foreshard.postgres.session_facts import DATABASE_FACTS, SESSION_FACTS

MakeEvidence = Callable[..., Path]


@pytest.fixture
def scope() -> Scope:
    return Scope(
        migration=12,
        flip=3,
        marker="a-marker",
        checkpoint=Checkpoint.BEFORE_CUTOVER,
        buckets=("b0001", "b0002"),
        tables=("flights", "aircraft"),
        chunks=4,
    )


@pytest.fixture
def make_evidence(tmp_path: Path) -> MakeEvidence:
    """``make_evidence(scope, *statements)``: evidence of equal copies, then changed by SQL statements."""
    made = 0

    def make(scope: Scope, *statements: str, made_at: datetime | None = None) -> Path:
        nonlocal made
        made += 1
        path = tmp_path / f"evidence-{made}.sqlite"
        with EvidenceWriter(path, scope, made_at or datetime.now(UTC)) as evidence:
            write_equal(evidence, scope)
        with closing(sqlite3.connect(path)) as database:
            if made_at is not None:
                database.execute(
                    "UPDATE meta SET value = ? WHERE key IN ('begun_at', 'made_at')", [made_at.isoformat()]
                )
            for statement in statements:
                database.execute(statement)
            database.commit()
        return path

    return make


def write_equal(evidence: EvidenceWriter, scope: Scope) -> None:
    """What a collector writes of two equal copies."""
    for bucket in scope.buckets if scope.own else ():
        evidence.add("own_suites", [(bucket, item, 1, "held", "-") for item in own_items(scope)])
    if scope.checkpoint is Checkpoint.BEFORE_COPY:
        for bucket in scope.buckets:
            evidence.add("source_tables", [(bucket, table, "r", "p", False, True) for table in scope.tables])
            evidence.add("target_leftovers", [(bucket, "relations", 0)])
        return
    for bucket in scope.buckets:
        for table in scope.tables:
            evidence.add(
                rows_table(table),
                [
                    # Beyond 2^63, and alike in their first 15 digits: any detour through a float would show.
                    (
                        bucket,
                        f"chunk {n}",
                        n,
                        "9",
                        f"1844674407370955161{n}",
                        "9",
                        f"1844674407370955161{n}",
                        0,
                        0,
                    )
                    for n in range(scope.chunks)
                ],
            )
        evidence.add("sequences", [(bucket, "flights_id_seq", 100, 10_100)])
        if scope.checkpoint is Checkpoint.BEFORE_CUTOVER:
            for section in sorted(set(Section) - MAY_BE_EMPTY):
                evidence.add(f"schema_{section}", [(bucket, "flights.id", "int8 NOT NULL", "int8 NOT NULL")])
    evidence.add(
        "sessions",
        [("*", f"session 0 {setting}", setting, "pinned", "pinned", "pinned") for setting in SESSION_FACTS],
    )
    published = len(scope.buckets) * len(scope.tables) + 1  # the marker too
    for name in ("fwd", "rev"):
        evidence.add("replication", [("*", name, 1, 1, published, 0, 0, 0, 1, "reserved", 0)])
    if scope.checkpoint is Checkpoint.BEFORE_CUTOVER:
        evidence.add("databases", [("*", fact, "C", "C") for fact in DATABASE_FACTS])
        evidence.add("shadow_reads", [("*", "all reads", 40, 40, 0, 0, 0)])
