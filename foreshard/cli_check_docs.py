"""`foreshard check docs`: where the Data Docs of a migration's checks are, and a server for them."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from foreshard import check_docs
from foreshard.cli_output import AsJson, out, show
from foreshard.errors import ConfigurationError, NotFound
from foreshard.settings import load_settings

commands = typer.Typer()


@commands.command("docs")
def docs(
    migration_id: Annotated[
        int | None,
        typer.Argument(metavar="[MIGRATION]", min=1, help="Number of the migration; without it, all."),
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve them from this process until Ctrl-C, and nothing else.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Where the Data Docs of data checks are: address and path, newest first.

    `foreshard serve` serves them at checks.docs_host and checks.docs_port.

    Examples: foreshard check docs 12 · foreshard check docs --serve
    """
    settings = load_settings()
    state_dir = settings.state_dir.resolve()
    found = check_docs.runs(state_dir, migration_id)
    if not found and migration_id is not None:
        raise NotFound(
            f"There are no Data Docs of migration {migration_id} in {state_dir / check_docs.MIGRATIONS}.",
            remedy="They are on the machine that ran its checks, in the state_dir of its settings.",
        )
    rows = [
        {
            "migration": run.migration,
            "checkpoint": run.checkpoint,
            "flip": run.verdict.get("flip"),
            "verdict": run.verdict_in_words,
            "made_at": run.made_at,
            "address": check_docs.address(settings.checks, run.migration, run.name),
            "path": str(run.first_page),
        }
        for run in found
    ]
    if as_json:
        show(rows)
    else:
        for run, row in zip(found, rows, strict=True):
            out.print(
                f"Migration {run.migration}, {run.checkpoint}, flip {row['flip']}: [bold]{run.verdict_in_words}[/]",
                highlight=False,
            )
            if row["address"]:
                out.print(f"  {escape(str(row['address']))}", highlight=False, soft_wrap=True)
            out.print(f"  {escape(str(row['path']))}", highlight=False, soft_wrap=True)
        if not found:
            out.print(
                f"No checks have run yet with their results in {escape(str(state_dir))}.", highlight=False
            )
    if serve:
        root = check_docs.root_address(settings.checks)
        if root is None:
            raise ConfigurationError(
                "checks.docs_port", "is 0, so Data Docs are not served", remedy="Set it to a free port."
            )
        from deployments.docs_server import DocsServer

        server = DocsServer(state_dir, settings.checks)
        out.print(f"Serving Data Docs at {escape(root)} until Ctrl-C.", highlight=False, soft_wrap=True)
        try:
            server.wait()
        except KeyboardInterrupt:
            out.print("Stopped.")
        finally:
            server.stop()
