"""The commands about Foreshard's automations in Prefect: alerts that notify."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from foreshard.cli_output import AsJson, out, show
from foreshard.settings import Settings, load_settings

if TYPE_CHECKING:
    from deployments.automations import Told

automations_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Alerts that notify: Foreshard's automations in Prefect.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


@automations_app.command(name="apply")
def apply_all(dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Makes or updates them, so that they notify by the blocks of \\[alerts] blocks. `foreshard serve` does so, too.

    One that was switched off in the UI stays off. A block that is not there is an error, and nothing is changed.

    Example: foreshard automations apply --dry-run
    """
    settings = _settings()
    from deployments import automations

    _show(automations.apply(settings, dry_run=dry_run), settings, as_json)


@automations_app.command(name="list")
def list_all(as_json: AsJson = False) -> None:
    """Which of them are there: applied, missing, disabled, or different from what `apply` would make.

    Example: foreshard automations list --json
    """
    settings = _settings()
    from deployments import automations

    _show(automations.state(settings), settings, as_json)


@automations_app.command(name="remove")
def remove_all(dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Deletes them. `foreshard serve` makes them again unless alerts.automations is false.

    Example: foreshard automations remove --dry-run
    """
    settings = _settings()
    from deployments import automations

    _show(automations.remove(dry_run=dry_run), settings, as_json)


def _settings() -> Settings:
    from deployments.prefect_client import use

    settings = load_settings()
    use(settings)
    return settings


def _show(told: Iterable[Told], settings: Settings, as_json: bool) -> None:
    found = list(told)
    if as_json:
        show([asdict(one) for one in found])
        return
    table = Table(Column("automation", no_wrap=True), "state", Column("when", overflow="fold"))
    for one in found:
        table.add_row(one.name, one.change, one.text)
    out.print(table if found else "There are none.")
    blocks = settings.alerts.blocks
    out.print(
        f"They notify by: {', '.join(blocks)}."
        if blocks
        else "No block is configured: nobody is notified. Make one in Prefect's UI, and name it in alerts.blocks.",
        highlight=False,
        markup=False,
    )
