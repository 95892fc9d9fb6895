"""`foreshard check suites`: a dry look at a team's own suites."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from foreshard.cli_output import AsJson, err, out, show
from foreshard.control.session import session
from foreshard.control.topology_store import TopologyStore
from foreshard.errors import ConfigurationError

commands = typer.Typer()


@commands.command("suites")
def suites(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="FOLDER", help="Look at this one instead of checks.suites of the settings."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Shows your own Great Expectations suites as a migration would run them, without running them.

    Reads no row and no shard. A file that could not be run is refused, with its name and the field.

    Examples: foreshard check suites · foreshard check suites gx/expectations --json
    """
    from deployments.own_suites import looked_at

    with session() as (settings, control):
        tables = TopologyStore(control).tables()
    folder = folder or settings.checks.suites
    if folder is None:
        raise ConfigurationError(
            "checks.suites",
            "is not set",
            remedy="Name a folder there, or here; docs/own-suites.md says more.",
        )
    with err.status("Great Expectations looks at them"):
        found = looked_at(folder, tables)
    if as_json:
        show({"folder": folder, "suites": found})
        return
    for suite in found:
        out.print(_table(suite))
    count = sum(len(suite["expectations"]) for suite in found)
    out.print(
        f"{count} expectations, each evaluated in every bucket, on both sides, before and after the cutover.",
        highlight=False,
    )


def _table(suite: dict[str, Any]) -> Table:
    table = Table(
        "#", "expectation", "arguments", "severity", title=escape(f"{suite['name']}: table {suite['table']}")
    )
    for number, expectation in enumerate(suite["expectations"], 1):
        arguments = ", ".join(f"{name}={value!r}" for name, value in expectation["kwargs"].items())
        notes = f"\n{expectation['notes']}" if expectation["notes"] else ""
        table.add_row(
            str(number), expectation["type"], escape(f"{arguments}{notes}"), escape(expectation["severity"])
        )
    return table
