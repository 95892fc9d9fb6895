"""`foreshard watch`: a live view of migrations under way, from the control database alone."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Annotated

import psycopg
import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text
from sqlalchemy.exc import OperationalError

from foreshard.cli_output import err, out
from foreshard.control.session import session
from foreshard.errors import ShardUnavailable
from foreshard.migration.lifecycle import Stage
from foreshard.migration.sight import Sight, Watcher
from foreshard.quantities import duration
from foreshard.watch_panel import PlainLines, panel

commands = typer.Typer()

EVERY_S = 1.0
INTERRUPTED = 130


@commands.command(rich_help_panel="Look")
def watch(
    migration_id: Annotated[
        int | None, typer.Argument(min=1, help="Number of the migration; without it all under way.")
    ] = None,
    every: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between two looks.")] = EVERY_S,
    as_json: Annotated[
        bool, typer.Option("--json", help="One object a line, whenever something has changed.")
    ] = False,
) -> None:
    """Shows migrations as they go on: stage, progress, both streams, flips, checks, what is waited for.

    Ends with the migration, or with the last of those under way. Exit code 0: done; 1: aborted, reversed or failed.
    Into a pipe it writes plain lines, and only what is new. It asks the control database and no shard.

    Examples: foreshard watch · foreshard watch 3 · foreshard watch 3 --json | jq .stage
    """
    with session() as (_, control):
        watcher = Watcher(control)
        if migration_id is None and not watcher.live():
            if not as_json:
                out.print("No migration is under way.")
            return
        live = (
            Live(console=out, auto_refresh=False, vertical_overflow="crop")
            if out.is_terminal and not as_json
            else None
        )
        try:
            with live or nullcontext():
                sights = _follow(watcher, migration_id, every, _shown(live, as_json))
        except KeyboardInterrupt:
            err.print("Not watched any longer; the migration goes on.")
            raise typer.Exit(INTERRUPTED) from None
    if any(sight.record.stage is not Stage.DONE for sight in sights):
        raise typer.Exit(1)


Show = Callable[[Sequence[Sight], str], None]


def _follow(watcher: Watcher, migration_id: int | None, every: float, show: Show) -> list[Sight]:
    """Looks until all are over, those that begin meanwhile too; a control database that is away is waited for."""
    sights: list[Sight] = []
    numbers = set() if migration_id is None else {migration_id}
    away_since: float | None = None
    while True:
        try:
            if migration_id is None:
                numbers |= set(watcher.live())
            sights = [watcher.look(number) for number in sorted(numbers)]
            away_since = None
        except (OperationalError, psycopg.OperationalError, ShardUnavailable):
            if not sights and away_since is None:
                raise  # not even once: rather say what is wrong
            away_since = away_since or time.monotonic()
        away = "" if away_since is None else duration(time.monotonic() - away_since)
        show(sights, away)
        if not away and all(sight.over for sight in sights):
            return sights
        time.sleep(every)


def _shown(live: Live | None, as_json: bool) -> Show:
    if as_json:
        return _as_json()
    return _as_lines() if live is None else _as_panels(live)


def _as_panels(live: Live) -> Show:
    def show(sights: Sequence[Sight], away: str) -> None:
        parts = [panel(sight) for sight in sights]
        if away:
            parts.append(Text(_away(away), style="bold red"))
        live.update(Group(*parts), refresh=True)

    return show


def _as_lines() -> Show:
    plain, was_away = PlainLines(), False

    def show(sights: Sequence[Sight], away: str) -> None:
        nonlocal was_away
        if bool(away) != was_away:
            was_away = bool(away)
            print(_away(away) if away else "The control database answers again.", flush=True)
        for sight in () if away else sights:
            for line in plain.new(sight):
                print(line, flush=True)

    return show


def _as_json() -> Show:
    told: dict[int, str] = {}

    def show(sights: Sequence[Sight], away: str) -> None:
        if away:
            err.print(_away(away))
            return
        for sight in sights:
            text = json.dumps(sight.to_json(), default=str)
            if told.get(sight.record.id) != text:
                told[sight.record.id] = text
                at = json.dumps(sight.at, default=str)
                sys.stdout.write(f'{{"at": {at}, {text[1:]}\n')
                sys.stdout.flush()

    return show


def _away(since: str) -> str:
    return f"The control database has not answered for {since}; what is shown is older. Trying again."
