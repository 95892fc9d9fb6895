"""Collects the evidence of one gate run from both servers. psycopg only: Great Expectations never sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from data_checks import own_run
from data_checks.evidence import ABSENT, EvidenceWriter
from data_checks.own_run import OwnChecks
from data_checks.scope import Checkpoint, Scope
from data_checks.suites import rows_table
from foreshard.errors import InvalidInput
from foreshard.postgres.catalog import (
    count_relations,
    read_definitions,
    read_sequences,
    read_stream,
    read_tables,
)
from foreshard.postgres.digests import CheckedTable, TableComparison, compare_tables
from foreshard.postgres.fence import Fence
from foreshard.postgres.pair import Pair, open_pair
from foreshard.postgres.recheck import Bound, Drain
from foreshard.postgres.session_facts import database_facts, session_facts
from foreshard.postgres.snapshot_pair import SnapshotPair
from foreshard.topology.keys import KeyType

WHOLE = "*"
"""Stands for the bucket where a fact is about the whole migration."""


@dataclass(frozen=True)
class Ends:
    """Connection strings of source and target, and the subscriptions between them (slots have their names)."""

    source: str
    target: str
    forward: str
    reverse: str


@dataclass(frozen=True)
class ShadowStats:
    """What shadow reads of the migration found so far, over all routers."""

    reads: int
    matches: int
    lags: int
    mismatches: int
    failures: int


def collect_evidence(
    path: Path,
    scope: Scope,
    ends: Ends,
    *,
    distribution_columns: Mapping[str, str],
    key_type: KeyType,
    bound: Bound,
    drain: Drain,
    shadow: ShadowStats,
    fence: Fence | None = None,
    own: OwnChecks | None = None,
) -> list[TableComparison]:
    """Evidence for the gate before or after the cutover, in a new file at ``path``.

    ``distribution_columns`` names the column that carries the key for each table. ``bound``, ``drain`` and
    ``fence`` as for `compare_tables`; ``own`` are the team's suites, those of the scope. Returns the comparisons
    of all tables; leaves no file if anything raises.
    """
    if scope.checkpoint is Checkpoint.BEFORE_COPY:
        raise InvalidInput("checkpoint", "there are no two copies to compare before the copy")
    checked = [
        CheckedTable(bucket, table, distribution_columns[table], key_type)
        for bucket in scope.buckets
        for table in scope.tables
    ]
    with (
        EvidenceWriter(path, scope, begun_at=datetime.now(UTC)) as evidence,
        own_run.beside(
            own, scope.migration, scope.buckets, {"source": ends.source, "target": ends.target}
        ) as running,
    ):
        comparisons = compare_tables(
            ends.source,
            ends.target,
            checked,
            bound=bound,
            drain=drain,
            fence=fence,
            chunks=scope.chunks,
            witness=partial(_add_sessions, evidence),
        )
        for comparison in comparisons:
            _add_comparison(evidence, comparison)
        # After the rows, and not a session that stood idle for as long as the scan: these facts are the newest.
        with open_pair(ends.source, ends.target) as pair:
            if scope.checkpoint is Checkpoint.BEFORE_CUTOVER:
                _add_definitions(evidence, pair, scope)
                evidence.add("databases", [(WHOLE, f.name, f.source, f.target) for f in database_facts(pair)])
                evidence.add(
                    "shadow_reads",
                    [
                        (
                            WHOLE,
                            "all reads",
                            shadow.reads,
                            shadow.matches,
                            shadow.lags,
                            shadow.mismatches,
                            shadow.failures,
                        )
                    ],
                )
            evidence.add(
                "sequences",
                [(s.bucket, s.name, s.source, s.target) for s in read_sequences(pair, scope.buckets)],
            )
            _add_replication(evidence, pair, ends)
        if running is not None:
            evidence.add("own_suites", running.rows())
    return comparisons


def collect_before_copy(path: Path, scope: Scope, source: str, target: str) -> None:
    """Evidence for the gate before the copy: the source can be replicated, and the target is empty."""
    if scope.checkpoint is not Checkpoint.BEFORE_COPY:
        raise InvalidInput("checkpoint", f"{scope.checkpoint} needs both copies compared")
    with (
        EvidenceWriter(path, scope, begun_at=datetime.now(UTC)) as evidence,
        open_pair(source, target) as pair,
    ):
        evidence.add(
            "source_tables",
            [
                (t.bucket, t.name, t.kind, t.persistence, t.forced_row_security, t.has_replica_identity)
                for t in read_tables(pair.source, scope.buckets)
            ],
        )
        relations = count_relations(pair.target, scope.buckets)
        evidence.add("target_leftovers", [(bucket, "relations", n) for bucket, n in relations.items()])


def _add_sessions(evidence: EvidenceWriter, sessions: SnapshotPair) -> None:
    found = session_facts(sessions.source.sessions, sessions.target.sessions)
    evidence.add(
        "sessions",
        [(WHOLE, f"session {f.session} {f.setting}", f.setting, f.wanted, f.source, f.target) for f in found],
    )


def _add_comparison(evidence: EvidenceWriter, comparison: TableComparison) -> None:
    evidence.add(
        rows_table(comparison.table),
        [
            (
                comparison.bucket,
                f"chunk {chunk.chunk}",
                chunk.chunk,
                str(chunk.source_rows),
                chunk.source_digest,
                ABSENT if chunk.target_rows is None else str(chunk.target_rows),
                ABSENT if chunk.target_digest is None else chunk.target_digest,
                chunk.rechecked,
                chunk.undecided,
            )
            for chunk in comparison.chunks
        ],
    )
    evidence.add(
        "differences",
        [
            (comparison.bucket, f"{comparison.table} {row.key}", row.chunk, row.kind.value)
            for row in comparison.differences
        ],
    )


def _add_definitions(evidence: EvidenceWriter, pair: Pair, scope: Scope) -> None:
    for bucket in scope.buckets:
        for definition in read_definitions(pair, bucket):
            evidence.add(
                f"schema_{definition.section}",
                [
                    (
                        bucket,
                        definition.name,
                        ABSENT if definition.source is None else definition.source,
                        ABSENT if definition.target is None else definition.target,
                    )
                ],
            )


def _add_replication(evidence: EvidenceWriter, pair: Pair, ends: Ends) -> None:
    for publisher, subscriber, name in (
        (pair.source, pair.target, ends.forward),
        (pair.target, pair.source, ends.reverse),
    ):
        stream = read_stream(publisher, subscriber, name)
        evidence.add(
            "replication",
            [
                (
                    WHOLE,
                    name,
                    stream.enabled,
                    stream.running,
                    stream.tables,
                    stream.tables_not_ready,
                    stream.apply_errors,
                    stream.sync_errors,
                    stream.slot_active,
                    stream.wal_status,
                    stream.lag_bytes,
                )
            ],
        )
