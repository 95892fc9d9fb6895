"""Commands about load: histories in, series out."""

from __future__ import annotations

import typer

from foreshard.cli_load_import import import_app
from foreshard.cli_load_log import commands as log_commands
from foreshard.cli_load_shares import commands as shares_commands
from foreshard.cli_load_show import commands as show_commands

load_app = typer.Typer(no_args_is_help=True, help="Load: import histories, look at series.")
import_app.add_typer(log_commands)
load_app.add_typer(import_app, name="import")
load_app.add_typer(show_commands)
load_app.add_typer(shares_commands)
