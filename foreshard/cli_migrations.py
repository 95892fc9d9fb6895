"""Commands by which a person ends a migration that has no way back, and cleans up after those that have ended."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from foreshard.cli_output import AsJson, MigrationId, Who, err, out, show
from foreshard.control.session import session
from foreshard.errors import InvalidInput
from foreshard.migration.progress import Progress
from foreshard.quantities import amount

commands = typer.Typer()


@commands.command(rich_help_panel="Operate")
def finalise(
    migration_id: MigrationId,
    said_by: Who,
    without_source: Annotated[
        bool, typer.Option("--without-source", help="The source is gone for good and does not answer.")
    ] = False,
    without_way_back: Annotated[
        bool, typer.Option("--without-way-back", help="The source answers, but its reverse stream is lost.")
    ] = False,
    despite_differences: Annotated[
        bool,
        typer.Option(
            "--despite-differences", help="Although a verification failed and none can be made any more."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Ends a migration that has no way back any more, on your word and without the checks after the cutover.

    Only after the cutover, when the target owns everything. A whole migration finalises by itself.

    Example: foreshard finalise 3 --without-source --as Ada
    """
    from foreshard.migration import by_hand

    if without_source == without_way_back:
        raise InvalidInput("--without-source, --without-way-back", "give exactly one of the two.")
    if not said_by.strip():
        raise InvalidInput("--as", "is empty.", remedy="Say who decides.")
    with session() as (settings, control):
        result = by_hand.finalise(
            control, settings, migration_id, said_by, _say,
            without_source=without_source, despite_differences=despite_differences,
        )  # fmt: skip
    _tell(migration_id, result, as_json)


def _say(progress: Progress) -> None:
    done, total = amount(progress.done, progress.unit), amount(progress.total, progress.unit)
    err.print(f"{progress.text}: {done} of {total}", highlight=False)


def _tell(migration_id: int, result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show({"migration": migration_id, **result})
        return
    note = f" {escape(str(result['note']))}." if "note" in result else ""
    out.print(f"Migration {migration_id} is {result['stage']}.{note}", highlight=False)


@commands.command(rich_help_panel="Operate")
def janitor(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be removed; change nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Removes what ended migrations left on any shard: slots, subscriptions, guards, copies.

    Never touches a live migration, a copy that owns keys, or what another control plane made.

    Example: foreshard janitor --dry-run
    """
    from foreshard.migration.janitor import clean

    with session() as (_, control):
        findings = clean(control, dry_run=dry_run)
    if as_json:
        show([asdict(finding) for finding in findings])
        return
    table = Table("shard", "migration", "kind", "name", "action", "why")
    for one in findings:
        number = "" if one.migration is None else str(one.migration)
        table.add_row(one.shard, number, one.kind, escape(one.name), one.action, escape(one.why))
    out.print(table if findings else "Nothing is left of any migration that has ended.")
