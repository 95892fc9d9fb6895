"""What `foreshard watch` draws of a migration: for terminals of any width, and as plain lines."""

from __future__ import annotations

from datetime import datetime

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from foreshard.control.stream_store import Reading
from foreshard.migration import progress_table
from foreshard.migration.lifecycle import ENDS, Stage
from foreshard.migration.sight import Sight, flip_in_words, gate_in_words
from foreshard.quantities import UNKNOWN, duration, many, size

LAST = 6
"""Lines of what happened."""

STALE_S = 150
"""Figures of the streams that are older than this are said to be old; the janitor looks each minute."""

STYLES = {"done": "green", "now": "bold reverse", "ahead": "dim"}


def panel(sight: Sight) -> RenderableType:
    """One migration."""
    record = sight.record
    title = (
        f"Migration {record.id}: {record.source} to {record.target}, {many(len(record.buckets), 'bucket')}"
    )
    parts: list[RenderableType] = [_path(sight)]
    if sight.progress is not None:
        parts += ["", *_progress(sight)]
    facts = _facts(sight)
    if facts:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, text, style in facts:
            grid.add_row(name, Text(text, style=style))
        parts += ["", grid]
    told = [one for one in sight.events if not one.shown][-LAST:]
    last = [Text(f"{one.at:%H:%M:%S} {one.text}", style="dim") for one in told]
    if last:
        parts += ["", *last]
    return Panel(
        Group(*parts), title=Text(title, style="bold"), title_align="left", border_style=_colour(sight)
    )


def _colour(sight: Sight) -> str:
    if sight.record.failure is not None or sight.record.stage in ENDS - {Stage.DONE}:
        return "red"
    if sight.record.stage is Stage.DONE:
        return "green"
    return "yellow" if sight.waits else "blue"


def _path(sight: Sight) -> Text:
    text = Text()
    for number, (stage, state) in enumerate(sight.path):
        text.append(" > " if number else "", style="dim")
        text.append(f" {stage} " if state == "now" else str(stage), style=STYLES[state])
    return text


def _progress(sight: Sight) -> list[RenderableType]:
    assert sight.progress is not None
    document = sight.progress.document
    done, total = float(document["done"]), float(document["total"])
    share = min(1.0, done / total) if total > 0 else 1.0
    bar = Table.grid(padding=(0, 1), expand=True)
    bar.add_column(ratio=1)
    bar.add_column(no_wrap=True, justify="right")
    bar.add_row(
        ProgressBar(total=1.0, completed=share, complete_style="blue", finished_style="green"), f"{share:.0%}"
    )
    return [Text(f"{sight.progress.step}: {progress_table.in_words(sight.progress.document)}"), bar]


def _facts(sight: Sight) -> list[tuple[str, str, str]]:
    """Name, text, style."""
    record = sight.record
    facts: list[tuple[str, str, str]] = []
    if sight.waits:
        facts.append(("waits for", sight.waits, "bold yellow"))
    facts.append(("ownership", f"{record.target} owns {record.bound} of 1024 slots", ""))
    for percent, share in record.facts.get("canary", {}).items():
        writes = share.get("writes_percent")
        of = "" if writes is None else f"{writes:.3g} % of writes, "
        facts.append((f"canary {float(percent):g} %", f"{of}{share['slots_percent']:.3g} % of slots", ""))
    if sight.reading is not None and record.stage not in ENDS:
        facts += _streams(sight, *sight.reading)
    facts += [("flip", flip_in_words(one).removeprefix("flip "), "") for one in sight.flips[-3:]]
    if sight.gate is not None:
        style = "" if sight.gate.passed else "bold red"
        facts.append(("checks", gate_in_words(sight.gate).removeprefix("checks "), style))
    return facts


def _streams(sight: Sight, read_at: datetime, reading: Reading) -> list[tuple[str, str, str]]:
    record = sight.record
    age = (sight.at - read_at).total_seconds()
    old = f" ({duration(age)} ago)" if age > STALE_S else ""
    lines = []
    for name, way, lag, late, shard, kept in (
        ("forward", f"{record.source} to {record.target}", reading.forward_lag_bytes, reading.forward_lag_s,
         record.source, reading.source_wal_bytes),
        ("reverse", f"{record.target} to {record.source}", reading.reverse_lag_bytes, reading.reverse_lag_s,
         record.target, reading.target_wal_bytes),
    ):  # fmt: skip
        if kept is None and lag is None:
            continue
        behind = UNKNOWN if lag is None else size(lag)
        when = UNKNOWN if late is None else duration(late)
        share = 0.0 if kept is None else kept / reading.wal_budget_bytes
        wal = (
            UNKNOWN
            if kept is None
            else f"{size(kept)} = {share:.1%} of its budget {size(reading.wal_budget_bytes)}"
        )
        style = "bold red" if share > 0.75 else "yellow" if share > 0.5 else ""
        lines.append(
            (f"{name} stream", f"{way}: lag {behind}, {when}; WAL kept on {shard} {wal}{old}", style)
        )
    return lines


class PlainLines:
    """The same for a pipe or a file: a line for each thing that is new, and for each tenth of a step."""

    def __init__(self) -> None:
        self._told: dict[int, int] = {}
        self._state: dict[int, tuple[str, str]] = {}
        self._tenth: dict[int, tuple[str, int]] = {}

    def new(self, sight: Sight) -> list[str]:
        """What is to be printed now."""
        number, record = sight.record.id, sight.record
        events = sight.events
        first = number not in self._told
        fresh = events[-LAST:] if first else events[self._told[number] :]
        self._told[number] = len(events)
        lines = [f"{one.at:%H:%M:%S} migration {number}: {one.text}" for one in fresh]
        state = (record.stage.value, sight.waits.split("; held for")[0])
        if self._state.get(number) != state:
            self._state[number] = state
            waits = f", waits for {state[1]}" if state[1] else ""
            lines.append(f"{sight.at:%H:%M:%S} migration {number}: at {record.stage}{waits}")
        if sight.progress is not None:
            document = sight.progress.document
            share = document["done"] / document["total"] if document["total"] else 1.0
            tenth = (f"{sight.progress.step} {document['text']}", int(10 * min(1.0, share)))
            if self._tenth.get(number) != tenth and document["unit"] != "s":
                self._tenth[number] = tenth
                told = progress_table.in_words(document)
                lines.append(f"{sight.at:%H:%M:%S} migration {number}: {sight.progress.step}: {told}")
        return lines
