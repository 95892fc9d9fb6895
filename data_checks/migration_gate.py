"""The gate of one step of a migration: evidence of both sides collected, judged in a process of its own, stored."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path

from data_checks import own_run
from data_checks.collect import Ends, ShadowStats, collect_before_copy, collect_evidence
from data_checks.compared import Compared, compared
from data_checks.evidence import age
from data_checks.own_run import OwnChecks
from data_checks.own_suites import read_suites
from data_checks.run_gate import run_gate
from data_checks.scope import Checkpoint, Scope
from data_checks.verdict import Verdict
from foreshard import check_docs
from foreshard.migration import comparison
from foreshard.migration.work import Work
from foreshard.postgres.digests import CHUNKS, TableComparison
from foreshard.postgres.guard import Side
from foreshard.postgres.marker import drain_both


@dataclass(frozen=True)
class GateReport:
    """A verdict with what belongs to it. ``compared``: None where nothing was compared.

    ``collected_s``: how long the evidence took; ``time_to_live``: how long it counts.
    ``address``: of the Data Docs; None if they are not served.
    """

    verdict: Verdict
    scope: Scope
    compared: Compared | None
    collected_s: float
    time_to_live: timedelta
    address: str | None


@dataclass(frozen=True)
class Gate:
    """A stored verdict."""

    id: int
    report: GateReport


def run(work: Work, checkpoint: Checkpoint, flip_no: int, tell: Callable[[str], None]) -> Gate:
    """The checks of ``checkpoint`` for one flip, on evidence made now; ``tell`` hears how the team's own suites go on.

    The evidence, the verdict and the Data Docs stand in the state directory, the verdict in the control database too.

    Raises:
        InvalidInput: a file of the team's own suites is wrong; nothing was read yet.
        LeaseLost: another runner drives the migration.
        ForeshardError, psycopg.Error: the evidence could not be collected; nothing is stored, which is no go.
    """
    own = _own_checks(work, tell)
    early = checkpoint is Checkpoint.BEFORE_COPY
    scope = Scope(
        migration=work.lease.migration,
        flip=flip_no,
        marker=secrets.token_hex(8),
        checkpoint=checkpoint,
        buckets=work.buckets,
        tables=tuple(work.tables),
        chunks=CHUNKS,
        own=() if early else tuple(suite.scope for suite in own.suites),
    )
    name = f"{checkpoint}-{flip_no}-{scope.marker}"
    directory = check_docs.directory_of(work.state_dir, scope.migration, name)
    directory.mkdir(parents=True)
    evidence = directory / "evidence.sqlite"
    time_to_live = timedelta(seconds=work.settings.gate_ttl_s)
    # Before the copy own suites guard nothing: what would say no later is said beside the verdict, as a warning.
    ends = {"source": work.source.dsn} if early else {}
    with own_run.beside(own, scope.migration, scope.buckets, ends) as running:
        started = time.monotonic()
        comparisons = collect(work, scope, evidence, own)
        collected_s = time.monotonic() - started
        verdict = run_gate(evidence, scope, directory / check_docs.DOCS, time_to_live=time_to_live)
        verdict = replace(verdict, warnings=(*verdict.warnings, *own_run.warnings(running)))
    figures = compared(comparisons, collected_s) if comparisons else None
    address = check_docs.address(work.checks, scope.migration, name) if verdict.docs else None
    report = GateReport(verdict, scope, figures, collected_s, time_to_live, address)
    return Gate(_keep(work, report, directory), report)


def collect(work: Work, scope: Scope, evidence: Path, own: OwnChecks) -> list[TableComparison]:
    """Evidence of the migration as it stands, for ``scope``, in a new file; the comparisons that were made for it."""
    if scope.checkpoint is Checkpoint.BEFORE_COPY:
        collect_before_copy(evidence, scope, work.source.dsn, work.target.dsn)
        return []
    totals = work.shadows.totals(scope.migration)
    with work.marker_line(Side.SOURCE) as there, work.marker_line(Side.TARGET) as back:
        lines = {Side.SOURCE: there, Side.TARGET: back}
        return collect_evidence(
            evidence,
            scope,
            Ends(work.source.dsn, work.target.dsn, work.names.forward, work.names.reverse),
            distribution_columns=work.tables,
            key_type=work.key_type,
            bound=lambda: work.bounds().target or 0,
            drain=drain_both(there, back, comparison.patience_s(work)),
            shadow=ShadowStats(totals.reads, totals.matches, totals.lags, totals.mismatches, totals.failures),
            fence=comparison.fence_of(work, lines),
            own=own,
        )


def _keep(work: Work, report: GateReport, directory: Path) -> int:
    """In the control database, by which flips are allowed, and beside the Data Docs, where their list reads it."""
    verdict, figures = report.verdict, report.compared
    document = {**asdict(verdict), "compared": figures and asdict(figures)}
    number = work.flips.record_gate(
        work.lease,
        report.scope.checkpoint.value,
        report.scope.flip,
        passed=verdict.passed,
        evaluated=verdict.evaluated,
        expected=verdict.expected,
        failed=len(verdict.failed),
        evidence_sha256=verdict.evidence_sha256 or "",
        verdict=document,
        ttl_s=report.time_to_live.total_seconds(),
        age_s=0.0 if verdict.evidence_made_at is None else age(verdict.evidence_made_at).total_seconds(),
    )
    check_docs.keep_verdict(directory, document)
    return number


def _own_checks(work: Work, tell: Callable[[str], None]) -> OwnChecks:
    """The team's own suites as their files are now; a wrong one is refused before anything is read."""
    folder = work.checks.suites
    suites = () if folder is None else read_suites(folder, work.tables)
    return OwnChecks(suites, work.checks.suite_timeout_s, tell)
