"""`foreshard migration show`: all that is known of one migration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import typer
from rich.markup import escape
from rich.table import Table

from foreshard.cli_output import AsJson, MigrationId, out, show
from foreshard.control.flip_store import FlipStore, GateRecord
from foreshard.control.migration_models import StageRun
from foreshard.control.migration_store import MigrationRecord, MigrationStore
from foreshard.control.plan_store import PlanStore
from foreshard.control.progress_store import KeptProgress, ProgressStore
from foreshard.control.request_store import RESUME
from foreshard.control.session import session
from foreshard.control.verification_store import VerificationRecord, VerificationStore
from foreshard.migration import progress_table, reckoning
from foreshard.migration.lifecycle import ENDS
from foreshard.migration.preflight.findings import Finding, journalled

migration_app = typer.Typer(no_args_is_help=True, help="Migrations: plans that are carried out.")


@migration_app.command("show")
def migration_show(migration_id: MigrationId, as_json: AsJson = False) -> None:
    """Where a migration stands, how far each step is, what was predicted, what was found, its confirmation."""
    with session() as (_, control):
        store = MigrationStore(control)
        migration = store.get(migration_id)
        runs = store.stage_runs(migration_id)
        confirmation = store.confirmation(migration_id)
        progress = ProgressStore(control).of(migration_id)
        predicted = reckoning.predicted(PlanStore(control).prediction(migration.plan_id))
        flips = FlipStore(control)
        measured = reckoning.measured(runs, flips.flips(migration_id), migration.facts)
        gates = flips.gates(migration_id)
        verifications = VerificationStore(control).of(migration_id)
    findings = journalled(runs)
    if as_json:
        document = {
            "migration": asdict(migration),
            "progress": [asdict(one) for one in progress],
            "predicted": predicted,
            "measured": measured,
            "preflight": [asdict(finding) for finding in findings],
            "checks": [asdict(gate) for gate in gates],
            "verifications": [asdict(one) for one in verifications],
            "confirmation": confirmation,
        }
        show(document)
        return
    out.print(f"Migration {migration.id}: {in_words(migration)}", highlight=False)
    out.print(_steps(runs))
    if progress and migration.stage not in ENDS:
        out.print(_progress(progress[-1]))
    out.print(_reckoned(predicted, measured))
    if findings:
        out.print(_preflight(findings))
    if gates:
        out.print(_checks(gates))
        for finding in [] if gates[-1].passed else gates[-1].verdict.get("failed", []):
            out.print(f"  {finding['table']}: {finding['what']}", markup=False, highlight=False)
    if verifications:
        out.print(_verified(verifications))
    if confirmation is not None:
        out.print("Confirmation (immutable):")
        out.print_json(json.dumps(confirmation, default=str))


def in_words(migration: MigrationRecord) -> str:
    """One line about a migration."""
    text = (
        f"plan {migration.plan_id}, {migration.source} to {migration.target}, {len(migration.buckets)} buckets, "
        f"at {migration.stage}, {migration.target} owns {migration.bound} of 1024 slots"
    )
    if migration.waiting_for:
        how = "resume" if migration.waiting_for == RESUME else "approve"
        text += f", waits for {migration.waiting_for} (foreshard {how} {migration.id} --as NAME)"
    return text + (f", failed: {migration.failure}" if migration.failure else "")


def _steps(runs: Sequence[StageRun]) -> Table:
    table = Table("step", "outcome", "began", "seconds", "found")
    for run in runs:
        seconds = (
            "" if run.finished_at is None else f"{(run.finished_at - run.started_at).total_seconds():.1f}"
        )
        found = ", ".join(f"{k} {v}" for k, v in run.detail.items() if not isinstance(v, list | dict))
        table.add_row(run.name, run.outcome, f"{run.started_at:%H:%M:%S}", seconds, escape(found[:120]))
    return table


def _progress(newest: KeptProgress) -> Table:
    """The step under way, and what of it is under way."""
    counts = progress_table.counts(newest.document)
    title = f"{newest.step}: {newest.document['text']}, as of {newest.updated_at:%H:%M:%S}"
    title = f"{title}; {counts}" if counts else title
    table = Table(*progress_table.HEADINGS, title=escape(title), title_justify="left")
    for row in progress_table.rows(newest.document):
        table.add_row(*map(escape, row))
    return table


def _verified(verifications: Sequence[VerificationRecord]) -> Table:
    table = Table("", "of", "made by", "began", "verdict", title="Verifications", title_justify="left")
    for one in verifications:
        first = f": {one.findings[0]['what']}" if one.findings else ""
        verdict = escape(one.in_words + first)
        table.add_row(
            str(one.id),
            escape(one.bucket or "all buckets"),
            escape(one.made_by),
            f"{one.begun_at:%Y-%m-%d %H:%M:%S}",
            f"[red]{verdict}[/]" if one.passed is False else verdict,
        )
    return table


def _reckoned(predicted: reckoning.Figures | None, measured: reckoning.Figures | None) -> Table:
    table = Table("", "predicted", "measured", "ratio", title="Predicted and measured", title_justify="left")
    for line in reckoning.side_by_side(predicted, measured):
        table.add_row(line.what, line.predicted, line.measured, line.ratio)
    return table


def _checks(gates: Sequence[GateRecord]) -> Table:
    """Every verdict; what failed in the last one stands below."""
    table = Table(
        "checks",
        "flip",
        "verdict",
        "evaluated",
        "failed",
        "rows",
        "made",
        title="Checks",
        title_justify="left",
    )
    for gate in gates:
        compared = gate.verdict.get("compared") or {}
        table.add_row(
            gate.checkpoint.replace("_", " "),
            str(gate.flip_no),
            "go" if gate.passed else "[red]NO[/]",
            f"{gate.evaluated} of {gate.expected}",
            str(gate.failed),
            f"{compared['rows']:,}" if compared else "",
            f"{gate.made_at:%H:%M:%S}",
        )
    return table


def _preflight(findings: Sequence[Finding]) -> Table:
    report = Table("", "object", "why it matters", "what to do", title="Preflight", title_justify="left")
    for one in findings:
        effect = "[red]blocks[/]" if one.blocking else "warns"
        report.add_row(effect, escape(one.subject), escape(one.why), escape(one.remedy))
    return report
