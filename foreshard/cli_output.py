"""What the commands share: where they print, and how numbers and JSON are asked for."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from foreshard.errors import ForeshardError

out = Console()
err = Console(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output on standard output.")]
Who = Annotated[str, typer.Option("--as", help="Your name; it is kept with the migration.")]
Comment = Annotated[str, typer.Option(help="Why; kept as well.")]
MigrationId = Annotated[int, typer.Argument(min=1, help="Number of the migration.")]


def complain(error: ForeshardError) -> None:
    """Says in one line what is wrong and what to do."""
    remedy = f" {escape(error.remedy)}" if error.remedy else ""
    err.print(f"[bold red]{escape(error.message)}[/]{remedy}", highlight=False, soft_wrap=True)


def reason(error: Exception) -> str:
    """The first line of what a database's driver said, also through SQLAlchemy."""
    return str(getattr(error, "orig", error)).strip().splitlines()[0]


def show(document: Any) -> None:
    """Prints ``document`` as JSON."""
    sys.stdout.write(json.dumps(document, indent=2, default=str) + "\n")
