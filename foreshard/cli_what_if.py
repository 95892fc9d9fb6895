"""`foreshard what-if`: the shards' forecasts as if buckets lay elsewhere."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from foreshard.cli_output import AsJson, out, show
from foreshard.control.session import session
from foreshard.control.what_if import Compared, what_if
from foreshard.errors import InvalidInput
from foreshard.forecast.peak import PEAK_LEVELS
from foreshard.load.shown_series import with_unit
from foreshard.quantities import chance

commands = typer.Typer()

PEAK_SHOWN = 0.9
EXAMPLES = "Examples: foreshard what-if b0007=shard-3 · foreshard what-if b0007=shard-3 b0012=shard-2 --json"


@commands.command("what-if", rich_help_panel="Look", epilog=EXAMPLES)
def what_if_moved(
    moves: Annotated[
        list[str], typer.Argument(metavar="BUCKET=SHARD ...", help="Which bucket would lie where.")
    ],
    as_json: AsJson = False,
) -> None:
    """Forecast the shards as if these buckets lay there. Nothing is changed.

    Their histories are rebuilt under the other placement and forecast by the models of the last forecast.
    """
    wanted = dict(_move(text) for text in moves)
    if len(wanted) < len(moves):
        raise InvalidInput("moves", "name a bucket twice")
    with session() as (settings, control):
        found = what_if(control, settings, wanted)
    if as_json:
        show([_document(one) for one in found])
        return
    table = Table(box=None, pad_edge=False)
    for name in (
        "shard",
        "metric",
        f"peak (q{PEAK_SHOWN:g}) now",
        "then",
        "capacity",
        "P(exceed) now",
        "then",
    ):
        table.add_column(name, justify="left" if name in ("shard", "metric") else "right")
    for one in found:
        table.add_row(
            escape(one.shard),
            one.metric,
            with_unit(_peak(one, then=False), one.metric),
            with_unit(_peak(one, then=True), one.metric),
            with_unit(one.capacity, one.metric),
            *(_risk(each.peak.above(one.capacity)) for each in (one.present, one.then)),
        )
    out.print(table)
    for one in found:
        if one.then.note:
            out.print(f"[yellow]{escape(str(one.then.key))}: {escape(one.then.note)}[/]", highlight=False)


def _move(text: str) -> tuple[str, str]:
    bucket, equals, shard = text.rpartition("=")
    if not (equals and bucket and shard):
        raise InvalidInput("moves", f"{text!r} is not BUCKET=SHARD, such as b0007=shard-3")
    return bucket, shard


def _risk(probability: float) -> str:
    said = chance(probability)
    return f"[bold red]{said}[/]" if probability >= 0.5 else said


def _peak(one: Compared, *, then: bool) -> float:
    return float((one.then if then else one.present).peak.values[PEAK_LEVELS.index(PEAK_SHOWN)])


def _document(one: Compared) -> dict[str, object]:
    return {
        "shard": one.shard,
        "metric": one.metric,
        "capacity": one.capacity,
        "peak_now": _peak(one, then=False),
        "peak_then": _peak(one, then=True),
        "p_exceed_now": one.present.peak.above(one.capacity),
        "p_exceed_then": one.then.peak.above(one.capacity),
        "note": one.then.note,
    }
