"""What the commands share: where they print, and how numbers and JSON are asked for."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

out = Console()
err = Console(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output on standard output.")]
Who = Annotated[str, typer.Option("--as", help="Your name; it is kept with the migration.")]
Comment = Annotated[str, typer.Option(help="Why; kept as well.")]
MigrationId = Annotated[int, typer.Argument(min=1, help="Number of the migration.")]


def show(document: Any) -> None:
    """Prints ``document`` as JSON."""
    sys.stdout.write(json.dumps(document, indent=2, default=str) + "\n")
