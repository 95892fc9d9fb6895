"""`foreshard migration shadow`: what share of the reads routers repeat while a migration runs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape

from foreshard.cli_output import AsJson, MigrationId, out, show
from foreshard.control.migration_store import MigrationStore
from foreshard.control.session import session
from foreshard.control.shadow_store import ShadowStore

commands = typer.Typer()


@commands.command("shadow")
def migration_shadow(
    migration_id: MigrationId,
    percent: Annotated[
        float | None,
        typer.Option(help="Repeat this share of the reads, 0 to 100; without it nothing changes."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Shows what shadow reads found so far, and changes how many are made, while the migration runs.

    Routers follow within a moment. Only in read_shadow and write_redirect; the choice stays until the cutover.

    Example: foreshard migration shadow 3 --percent 20
    """
    with session() as (_, control):
        shadows = ShadowStore(control)
        if percent is not None:
            shadows.choose(migration_id, percent)
        migration = MigrationStore(control).get(migration_id)
        totals, differences = shadows.totals(migration_id), shadows.differences(migration_id)
    if as_json:
        show(
            {
                "migration": migration_id,
                "stage": migration.stage,
                "shadow_percent": migration.shadow_percent,
                **asdict(totals),
                "differences": differences,
            }
        )
        return
    out.print(
        f"Migration {migration_id}, at {migration.stage}: {migration.shadow_percent:g} % of reads are repeated. "
        f"{totals.reads} compared: {totals.matches} equal, {totals.lags} only late, {totals.mismatches} different, "
        f"{totals.unsettled} not settled, {totals.failures} failed; {totals.dropped} dropped.",
        highlight=False,
    )
    for one in differences:
        out.print(escape(one), highlight=False)
