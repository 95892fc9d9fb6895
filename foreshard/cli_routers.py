"""The command that shows routers."""

from __future__ import annotations

from dataclasses import asdict

import typer
from rich.markup import escape
from rich.table import Column, Table

from foreshard.cli_output import AsJson, out, show
from foreshard.control.router_store import RouterStore
from foreshard.control.session import session
from foreshard.control.topology_store import TopologyStore
from foreshard.quantities import duration

commands = typer.Typer()


@commands.command(rich_help_panel="Look")
def routers(as_json: AsJson = False) -> None:
    """Routers that read the map, and which epoch each has in use; those that died, for an hour.

    One that is cut off is waited for until its lease is over; from then on it asks a shard before every read.

    Example: foreshard routers --json
    """
    with session() as (_, control):
        found = RouterStore(control).all()
        epoch = TopologyStore(control).routing_epoch()  # after the rows: what they say was the newest then
    if as_json:
        show([asdict(one) | {"newest": one.epoch >= epoch} for one in found])
        return
    table = Table(
        Column("application", overflow="fold"), "host", "pid", "state", "epoch", "heartbeat", "since (UTC)"
    )
    for one in found:
        state = "[green]live[/]" if one.live else "[yellow]expired[/]"
        known = f"{one.epoch}" if one.epoch >= epoch else f"{one.epoch} (newest {epoch})"
        silent = f"{duration(one.silent_s)} ago"
        since = f"{one.registered_at:%m-%d %H:%M}"
        table.add_row(escape(one.application), escape(one.host), str(one.pid), state, known, silent, since)
    out.print(table if found else f"No router is registered; the newest routing epoch is {epoch}.")
