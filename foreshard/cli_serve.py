"""`foreshard serve` and `foreshard upgrade`: the process that runs the flows, and its database's schema."""

from __future__ import annotations

from typing import Annotated

import typer

from foreshard.cli_output import err, out
from foreshard.control.session import session
from foreshard.control.upgrade import upgrade as bring_up_to_date
from foreshard.settings import load_settings

commands = typer.Typer()


@commands.command(
    rich_help_panel="Operate",
    epilog="Examples: foreshard serve · FORESHARD_CONFIG=/etc/foreshard.toml foreshard serve --wait 600",
)
def serve(
    wait: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="How long to wait for a Prefect server that is away."),
    ] = 120.0,
) -> None:
    """Serves all flows from this process, and registers their deployments and schedules.

    Brings the control database to this version's schema first. Ctrl-C or SIGTERM stops it and the runs under way;
    the next start goes on with their migrations. A schedule that somebody paused in the UI stays paused.
    """
    from deployments.prefect_client import use

    use(load_settings())
    from deployments.serve import serve as serve_flows

    serve_flows(lambda text: err.print(text, highlight=False, markup=False, soft_wrap=True), patience_s=wait)


@commands.command(rich_help_panel="Operate", epilog="Example: foreshard upgrade")
def upgrade() -> None:
    """Brings the control database to this version's schema, as `serve` does at its start: for workers of a pool."""
    with session() as (_, control):
        done = bring_up_to_date(control)
    what = f"was {done.before or 'none'}" if done.changed else "nothing to do"
    out.print(f"Control database: schema {done.after} ({what}).", highlight=False)
