"""`foreshard doctor`: looks at the whole installation and says how to mend it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated

import typer
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from foreshard.cli_output import AsJson, err, out, show
from foreshard.doctor.examination import CHECKS, Examination
from foreshard.doctor.finding import Finding, Severity
from foreshard.doctor.prefect import Expected
from foreshard.settings import Settings, load_settings

commands = typer.Typer()

MARKS = {Severity.OK: "[green]ok[/]", Severity.WARN: "[yellow]warn[/]", Severity.WRONG: "[bold red]wrong[/]"}
QUIET_S = 2.0
"""What takes longer says what it waits for."""


@commands.command(
    rich_help_panel="Look",
    epilog="Examples: foreshard doctor · foreshard doctor --only shard-2 · foreshard doctor --json | jq -c '.[]'",
)
def doctor(
    only: Annotated[
        str | None,
        typer.Option(metavar="NAME", help=f"One check: {', '.join(CHECKS)}, or the name of a shard."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Checks packages, settings, control database, Prefect, deployments and every shard, and says how to mend them.

    Changes nothing. Exit code 1 when something is wrong; what is only worth knowing (warn) leaves it 0.
    """
    from deployments.served import NAME

    settings = load_settings()
    with _Progress() as progress:
        findings = Examination(
            settings,
            NAME,
            lambda: expected(settings),
            lambda: automations(settings),
            only=only,
            tell=progress.tell,
        ).run()
    if as_json:
        show([asdict(finding) for finding in findings])
    else:
        print_findings(findings)
    if any(finding.severity is Severity.WRONG for finding in findings):
        raise typer.Exit(1)


def expected(settings: Settings) -> list[Expected]:
    """What should be deployed: the table that `foreshard serve` registers."""
    from deployments.served import served

    every_s = settings.checks.verify_every_s
    return [
        Expected(
            one.name,
            one.entrypoint,
            tuple(one.tags),
            one.schedule.every.total_seconds() if one.schedule else None,
            one.at_once.runs if one.at_once else None,
            one.trigger_name if one.after_event else None,
        )
        for one in served(timedelta(seconds=every_s) if every_s else None)
    ]


def automations(settings: Settings) -> list[str]:
    """Names of the automations that `foreshard automations apply` makes."""
    from deployments.automations import wanted

    return [one.name for one in wanted(settings.alerts, [])]


def print_findings(findings: Sequence[Finding]) -> None:
    """A line each, the remedy below it; then how many of which."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        what = f"[dim]{escape(finding.check)}:[/] {escape(finding.what.removeprefix(f'{finding.check}: '))}"
        if finding.remedy:
            what += f"\n[dim]{escape(finding.remedy)}[/]"
        table.add_row(MARKS[finding.severity], what)
    out.print(table)
    counts = Counter(finding.severity for finding in findings)
    said = ", ".join(f"{counts[one]} {one}" for one in Severity if counts[one])
    out.print(f"\n{said or 'nothing was looked at'}.", highlight=False)


class _Progress:
    """Says on a terminal what is still waited for, once that takes long."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._status = Status("", console=err)
        self._shown = False

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._status.stop()

    def tell(self, waiting: set[str]) -> None:
        """What is under way now."""
        if time.monotonic() - self._began < QUIET_S:
            return
        self._status.update(f"waiting for {', '.join(sorted(waiting))}")
        if not self._shown:
            self._shown = True
            self._status.start()
