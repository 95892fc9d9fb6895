"""The gate: collect evidence of both sides, have it judged in a process of its own, store the verdict."""

from __future__ import annotations

import secrets
import time
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path

from prefect import get_run_logger, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from data_checks import own_run
from data_checks.collect import Ends, ShadowStats, collect_before_copy, collect_evidence
from data_checks.compared import compared
from data_checks.evidence import age
from data_checks.own_run import OwnChecks
from data_checks.own_suites import read_suites
from data_checks.run_gate import run_gate
from data_checks.scope import Checkpoint, Scope
from data_checks.suite_titles import in_words as words
from foreshard import check_docs
from foreshard.migration import comparison
from foreshard.migration.runner import Runner, Step
from foreshard.migration.stages import prepare
from foreshard.migration.work import Work
from foreshard.postgres.digests import CHUNKS, TableComparison
from foreshard.postgres.guard import Side
from foreshard.postgres.marker import drain_both
from tasks import gate_markdown
from tasks.gate_markdown import GateReport
from tasks.retries import is_transient


@dataclass(frozen=True)
class Gate:
    """A stored verdict."""

    id: int
    report: GateReport


def needed(runner: Runner, step: Step) -> bool:
    """Whether the checks of ``step`` must run now.

    Those before the copy only until it has begun: afterwards the target holds what this migration made there, and a
    run that resumes would not find it empty.
    """
    if step.checkpoint == Checkpoint.BEFORE_COPY:
        return not prepare.begun(runner.work)
    return step.checkpoint is not None


def check(runner: Runner, step: Step) -> Gate:
    """Runs the checks that ``step`` needs and stores their verdict for its flip.

    Raises GateRefused when the verdict is a no.
    """
    assert step.checkpoint is not None
    gate = _run.with_options(task_run_name=f"checks {step.checkpoint}")(
        runner, step, Checkpoint(step.checkpoint)
    )
    runner.work.flips.require_gate(runner.work.lease.migration, step.checkpoint, step.flip_no)
    return gate


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=2, retry_condition_fn=is_transient)
def _run(runner: Runner, step: Step, checkpoint: Checkpoint) -> Gate:
    work = runner.work
    own = _own_checks(work)
    early = checkpoint is Checkpoint.BEFORE_COPY
    scope = Scope(
        migration=work.lease.migration,
        flip=step.flip_no,
        marker=secrets.token_hex(8),
        checkpoint=checkpoint,
        buckets=work.buckets,
        tables=tuple(work.tables),
        chunks=CHUNKS,
        own=() if early else tuple(suite.scope for suite in own.suites),
    )
    name = f"{checkpoint}-{step.flip_no}-{scope.marker}"
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
    document = {**asdict(verdict), "compared": figures and asdict(figures)}
    gate_id = work.flips.record_gate(
        work.lease,
        checkpoint.value,
        step.flip_no,
        passed=verdict.passed,
        evaluated=verdict.evaluated,
        expected=verdict.expected,
        failed=len(verdict.failed),
        evidence_sha256=verdict.evidence_sha256 or "",
        verdict=document,
        ttl_s=work.settings.gate_ttl_s,
        age_s=0.0 if verdict.evidence_made_at is None else age(verdict.evidence_made_at).total_seconds(),
    )
    check_docs.keep_verdict(directory, document)
    address = check_docs.address(work.checks, scope.migration, name) if verdict.docs else None
    report = GateReport(verdict, scope, figures, collected_s, time_to_live, address)
    show(report)
    get_run_logger().info("%s: %s", checkpoint, gate_markdown.in_words(verdict))
    return Gate(gate_id, report)


def _own_checks(work: Work) -> OwnChecks:
    """The team's own suites as their files are now; a wrong one is refused before anything is read."""
    folder = work.checks.suites
    suites = () if folder is None else read_suites(folder, work.tables)
    return OwnChecks(suites, work.checks.suite_timeout_s, get_run_logger().info)


def show(report: GateReport) -> None:
    """The verdict as artifacts of this run, with stable keys: in words, and a link to the Data Docs."""
    migration, checkpoint = report.scope.migration, words(report.scope.checkpoint).lower()
    said = f"{'Go' if report.verdict.passed else 'No'}: {checkpoint}, flip {report.scope.flip}"
    create_markdown_artifact(
        key=f"migration-{migration}-checks",
        markdown=gate_markdown.as_markdown(report),
        description=said,
    )
    if report.address is not None:
        create_link_artifact(
            key=f"migration-{migration}-data-docs",
            link=report.address,
            link_text=f"Data Docs: {checkpoint}, flip {report.scope.flip}",
            description=said,
        )


def collect(work: Work, scope: Scope, evidence: Path, own: OwnChecks) -> list[TableComparison]:
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
