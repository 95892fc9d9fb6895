"""The command that shows which bucket makes how much of a shard's load."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import numpy as np
import typer
from rich.markup import escape
from rich.table import Column, Table

from foreshard.cli_output import AsJson, out, show
from foreshard.control.forecast_input import fleet_load
from foreshard.control.session import session
from foreshard.control.topology_store import TopologyStore
from foreshard.errors import InvalidInput, NotFound
from foreshard.forecast.rebuild import FleetLoad
from foreshard.load.timespan import duration
from foreshard.topology.placement import Placement

commands = typer.Typer()


@commands.command("shares")
def shares(
    shard: Annotated[str | None, typer.Option(help="Only this shard.")] = None,
    metric: Annotated[str | None, typer.Option(help="Only this metric, e.g. cpu_cores.")] = None,
    since: Annotated[str, typer.Option(help="How far back: hours, days or weeks, e.g. 36h, 7d, 6w.")] = "7d",
    top: Annotated[int, typer.Option(min=1, help="Buckets of each shard that are shown, the largest.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Which bucket makes how much of a shard's CPU and I/O, where it lies now, and how well that is known.

    R2 is the share of the load's ups and downs that the buckets' activity foretells in hours that were left out of
    the fit: 1 is perfect, below 0.5 the parts are rough. What no bucket makes is the shard's own.

    Example: foreshard load shares --shard shard-3 --metric cpu_cores --since 14d
    """
    span = duration("--since", since)
    with session() as (settings, control):
        topology = TopologyStore(control)
        placement, names = topology.placement(), [one.name for one in topology.shards()]
        if shard is not None and shard not in names:
            raise InvalidInput(
                "--shard", f"there is no shard {shard!r}.", remedy=f"There are {', '.join(names)}."
            )
        load = fleet_load(control, settings.clock.fleet_clock().now(), span)
    if metric is not None and metric not in load.apportioned:
        known = ", ".join(sorted(load.apportioned)) or "none"
        raise InvalidInput("--metric", f"{metric!r} is not apportioned.", remedy=f"These are: {known}.")
    rows = [
        _shares(load, name, one, placement)
        for name in sorted(load.apportioned)
        for one in sorted(load.apportioned[name].since)
        if metric in (None, name) and shard in (None, one)
    ]
    if not rows and not as_json:
        raise NotFound(
            f"No load of a shard was measured in the last {since}.",
            remedy="Run the collect flow, import a history, or look further back by --since.",
        )
    if as_json:
        show(rows)
        return
    for row in rows:
        out.print(_table(row, top))
        if row["fit"]["note"]:
            out.print(f"[yellow]{escape(row['fit']['note'])}[/]", highlight=False)


def _shares(load: FleetLoad, metric: str, shard: str, placement: Placement) -> dict[str, Any]:
    """Means over the hours that are known; shares of the shard's whole load as the buckets lie now."""
    found = load.apportioned[metric]
    history = load.shard_panel(placement, [shard], [metric]).values[0]
    known = ~np.isnan(history)
    mean = float(history[known].mean(dtype=np.float64)) if known.any() else 0.0
    parts = dict.fromkeys(placement.buckets_on(shard), 0.0)
    for row, bucket in enumerate(found.activity.buckets):
        if bucket in parts and known.any():
            parts[bucket] = float(np.nan_to_num(found.part(row)[known]).mean())
    shares = {bucket: part / mean if mean > 0 else 0.0 for bucket, part in parts.items()}
    return {
        "shard": shard,
        "metric": metric,
        "hours": int(known.sum()),
        "mean": mean,
        "buckets": {
            bucket: {"mean": parts[bucket], "share": shares[bucket]}
            for bucket in sorted(parts, key=lambda name: (-parts[name], name))
        },
        "own": {"mean": mean - sum(parts.values()), "share": 1.0 - sum(shares.values()) if mean > 0 else 0.0},
        "fit": asdict(found.fits[shard]),
    }


def _table(row: dict[str, Any], top: int) -> Table:
    fit = row["fit"]
    r_squared = "-" if fit["r_squared"] is None else f"{fit['r_squared']:.2f}"
    table = Table(
        Column("part", overflow="fold"),
        Column(row["metric"], justify="right"),
        Column("share", justify="right"),
        title=f"{row['shard']}: {row['metric']}",
        caption=f"{row['hours']} h known; fit by {fit['method']}, {fit['windows']} h, R2 {r_squared}",
        title_justify="left",
        caption_justify="left",
    )
    parts = list(row["buckets"].items())
    for bucket, part in parts[:top]:
        table.add_row(escape(bucket), f"{part['mean']:,.4g}", f"{part['share']:.1%}")
    if rest := [part for _, part in parts[top:]]:
        mean, share = (sum(part[name] for part in rest) for name in ("mean", "share"))
        table.add_row(f"{len(rest)} more", f"{mean:,.4g}", f"{share:.1%}")
    table.add_row("the shard's own", f"{row['own']['mean']:,.4g}", f"{row['own']['share']:.1%}")
    table.add_section()
    table.add_row("whole", f"{row['mean']:,.4g}", "100.0%" if row["mean"] > 0 else "-")
    return table
