"""Commands about PgBouncer, for applications that do not import the router."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from foreshard.cli_output import AsJson, err, show
from foreshard.control.session import session
from foreshard.control.topology_store import TopologyStore
from foreshard.pgbouncer import file
from foreshard.pgbouncer.alias import Alias
from foreshard.pgbouncer.ini import ini
from foreshard.pgbouncer.rendering import rendered

pgbouncer_app = typer.Typer(
    no_args_is_help=True, help="PgBouncer: the routing map for applications in other languages."
)


@pgbouncer_app.callback()
def _commands() -> None:
    """A group, although it has one command."""


@pgbouncer_app.command("render")
def render(
    target: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Replace this file, whole. [default: print it]"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Writes the routing map as the databases of a PgBouncer: one alias a bucket, without passwords.

    Its configuration includes the file (%include FILE); RELOAD makes it read it. docs/pgbouncer.md says more.

    Example: foreshard pgbouncer render --out /etc/pgbouncer/foreshard.ini
    """
    with session() as (_, control):
        topology = TopologyStore(control)
        epoch, found = rendered(topology)
        if target is not None:
            changed = file.write(target, lambda: ini(*rendered(topology)))
            if not as_json:
                said = "written: RELOAD every PgBouncer that includes it" if changed else "as it was"
                err.print(f"{target}: {len(found)} aliases, routing epoch {epoch}; {said}.", highlight=False)
        elif not as_json:
            sys.stdout.write(ini(epoch, found))
    if as_json:
        show({"epoch": epoch, "file": target, "aliases": [_document(alias) for alias in found]})


def _document(alias: Alias) -> dict[str, object]:
    return {
        "alias": alias.name,
        "bucket": alias.bucket,
        "shard": alias.shard,
        **alias.address.parameters,
        "connect_query": alias.connect_query,
        "left_out": list(alias.address.left_out),
    }
