"""How an adoption looks in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from foreshard.adoption.changes import Change
from foreshard.adoption.facts import Finding
from foreshard.adoption.report import AdoptionReport, Verdict
from foreshard.adoption.summary import Line, TableSummary, summarise, summarise_changes
from foreshard.postgres.hazards import Effect

_MARKS = {
    Effect.BLOCKS: "[red]not movable[/]",
    Effect.WHOLE: "[yellow]as a whole[/]",
    Effect.WARNS: "[cyan]note[/]",
}
_MOVABLE = "[green]movable[/]"
_MARK_WIDTH = 11
_MOST_LINES = 8


def print_report(report: AdoptionReport, out: Console) -> None:
    """Shards, findings, tables, and how many buckets can be moved."""
    out.print(_shards(report))
    for finding in report.findings:
        print_finding(finding, out)
    for table in summarise(report):
        out.print()
        _print_table(table, out)
    out.print()
    out.print(_verdict(report), highlight=False)


def print_finding(finding: Finding, out: Console) -> None:
    """Something about a shard or the whole fleet."""
    _print_entry(out, _finding_mark(finding), f"{finding.subject} {finding.why}.", finding.remedy)


def print_changes(changes: Sequence[Change], out: Console) -> None:
    """What is, or would be, different in the control database."""
    table = Table("what", "was", "becomes", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for change in summarise_changes(changes):
        gone = "[red]removed[/]"
        table.add_row(escape(change.what), escape(change.was), escape(change.becomes) or gone)
    out.print(table)


def _shards(report: AdoptionReport) -> Table:
    table = Table("shard", "server", box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for heading in ("buckets", "tables", "rows", "size"):
        table.add_column(heading, justify="right")
    for shard in report.shards:
        if shard.away is not None:
            table.add_row(shard.name, "[red]away[/]", "?", "?", "?", "?")
            continue
        rows, size = sum(one.rows for one in shard.tables), sum(one.bytes for one in shard.tables)
        counts = f"{len(shard.buckets):,}", f"{len(shard.tables):,}", f"{rows:,}", in_bytes(size)
        table.add_row(shard.name, shard.version, *counts)
    return table


def _print_table(table: TableSummary, out: Console) -> None:
    if table.name:
        known = f"by {table.column}" if table.column else "not described"
        parts = f", {table.partitions} partitions" if table.partitions else ""
        size = f"{table.buckets:,} buckets{parts}, about {table.rows:,} rows, {in_bytes(table.bytes)}"
        out.print(f"[bold]{escape(table.name)}[/] {escape(known)} [dim]· {size}[/]", highlight=False)
        if table.verdicts[Verdict.MOVABLE]:
            _print_entry(out, _MOVABLE, _in(table.verdicts[Verdict.MOVABLE], table.buckets), "")
    else:
        out.print("[bold]Buckets themselves[/]")
    for line in table.lines[:_MOST_LINES]:
        _print_entry(out, _MARKS[line.effect], _sentence(line, table.buckets), line.remedy)
    if len(table.lines) > _MOST_LINES:
        _print_entry(out, "", f"and {len(table.lines) - _MOST_LINES} more; --json shows them all", "")


def _sentence(line: Line, of: int) -> str:
    if len(line.buckets) == of:
        return f"{line.text}."
    some = ", ".join(line.buckets[:2]) + (", …" if len(line.buckets) > 2 else "")
    return f"{line.text} (in {len(line.buckets):,} of {of:,}: {some})."


def _in(count: int, of: int) -> str:
    return "in every bucket" if count == of else f"in {count:,} of {of:,} buckets"


def _finding_mark(finding: Finding) -> str:
    return "[red]wrong[/]" if finding.blocks or finding.untrue else "[cyan]note[/]"


def _print_entry(out: Console, mark: str, text: str, remedy: str) -> None:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=_MARK_WIDTH, no_wrap=True)
    grid.add_column(ratio=1)
    said = Text(text)
    if remedy:
        said.append(f"\n→ {remedy}", style="dim")
    grid.add_row(Text.from_markup(mark), said)
    out.print(Padding(grid, (0, 0, 0, 2)))


def _verdict(report: AdoptionReport) -> str:
    movable, whole, no = (report.count(verdict) for verdict in Verdict)
    counts = f"{movable:,} movable, {whole:,} only as a whole (one flip, no canary), {no:,} not movable"
    return f"[bold]{len(report.buckets):,} buckets:[/] {counts}. {report.sampled:,} keys were looked at."


def in_bytes(size: float) -> str:
    """A size for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
