"""The command that prints what Prometheus would scrape."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from foreshard.cli_output import AsJson, show
from foreshard.control.session import session
from foreshard.settings import load_settings

commands = typer.Typer()


@commands.command(rich_help_panel="Look")
def metrics(
    as_json: AsJson = False,
    serve: Annotated[
        bool,
        typer.Option("--serve", help="Serve them until interrupted, where `foreshard serve` does not run."),
    ] = False,
) -> None:
    """Prints Foreshard's metrics as Prometheus would read them now; `foreshard serve` serves them.

    Examples: foreshard metrics | grep exceed · foreshard metrics --json · foreshard metrics --serve
    """
    if serve:
        from deployments.metrics_server import serve_alone

        serve_alone(load_settings())
        return
    from foreshard.metrics.catalogue import CATALOGUE
    from foreshard.metrics.prometheus import exposition
    from foreshard.metrics.reader import read
    from foreshard.metrics.samples import samples

    with session() as (settings, control):
        reading = read(control, settings)
    if not as_json:
        sys.stdout.write(exposition(lambda: reading))
        return
    labels = {spec.name: spec.labels for spec in CATALOGUE}
    show(
        [
            {
                "name": one.name,
                "labels": dict(zip(labels[one.name], one.labels, strict=True)),
                "value": one.value,
            }
            for one in samples(reading)
        ]
    )
