"""What is known of load: which series there are, and one of them as a table, a plot or data."""

from __future__ import annotations

import csv
import sys
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.markup import escape
from rich.table import Table

from foreshard.cli_output import AsJson, out, show
from foreshard.control.engine import ControlDatabase
from foreshard.control.load_store import LoadStore
from foreshard.control.session import session
from foreshard.control.topology_store import TopologyStore
from foreshard.errors import InvalidInput
from foreshard.load.shown_series import ShownSeries, unit_of, with_unit
from foreshard.load.timespan import timespan
from foreshard.quantities import duration as in_words

commands = typer.Typer()

WIDTH = 72
BAR = 24
PLOT_ROWS = 10


class Step(StrEnum):
    """What a value is the mean of."""

    RAW = "raw"
    FIVE_MINUTES = "5m"
    HOUR = "1h"

    @property
    def length(self) -> timedelta | None:
        """None for samples as they were measured."""
        return {"raw": None, "5m": timedelta(minutes=5), "1h": timedelta(hours=1)}[self.value]

    @classmethod
    def fitting(cls, span: timedelta) -> Step:
        """One that makes a table of some 70 lines at most."""
        if span <= timedelta(hours=1):
            return cls.RAW
        return cls.FIVE_MINUTES if span <= timedelta(hours=6) else cls.HOUR


@commands.command("show")
def load_show(
    shard: Annotated[
        str | None, typer.Option(help="Of this shard; with --bucket: of the bucket there.")
    ] = None,
    bucket: Annotated[str | None, typer.Option(help="Of this bucket, on whichever shard it was.")] = None,
    metric: Annotated[str | None, typer.Option(help="Which of its metrics.")] = None,
    since: Annotated[str, typer.Option(help="From when: 24h, 7d, or a time.")] = "24h",
    until: Annotated[str, typer.Option(help="Until when.")] = "now",
    step: Annotated[
        Step | None,
        typer.Option(help="Samples, or means of so long. \\[default: what fits]", show_default=False),
    ] = None,
    plot: Annotated[bool, typer.Option("--plot", help="Draw it here, in place of the table.")] = False,
    png: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw it into this file.")] = None,
    as_json: AsJson = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="As `foreshard load import csv` reads it, on standard output.")
    ] = False,
) -> None:
    """A series of load; without --metric, which series there are. Gaps are shown as gaps.

    Times are of the time zone in the settings (clock.timezone). A mean's time is its beginning, a sample's its end.

    Examples: foreshard load show · foreshard load show --shard shard-1 --metric cpu_cores --since 7d --png cpu.png
    """
    if as_json and as_csv:
        raise InvalidInput("--csv", "and --json exclude each other")
    if png is not None and png.suffix != ".png":
        raise InvalidInput("--png", f"{png} does not end in .png")
    with session() as (settings, control):
        zone = ZoneInfo(settings.clock.timezone)
        begin, end = timespan(since, until, settings.clock.fleet_clock().now(), zone)
        _refuse_unknown(control, shard, bucket)
        if metric is None:
            if plot or png is not None or as_csv:
                raise InvalidInput("--metric", "is missing: a plot is of one series")
            _list(LoadStore(control), shard, bucket, (begin, end), zone, as_json)
            return
        if shard is None and bucket is None:
            raise InvalidInput("--shard", "is missing, or --bucket: whose load?")
        shown = _series(control, shard, bucket, metric, (begin, end), step or Step.fitting(end - begin))
    if png is not None:
        _draw(shown, png, zone)
    if as_json:
        show(_document(shown, shard, bucket))
    elif as_csv:
        _write_csv(shown, shard, bucket)
    elif not shown.values.empty:
        _print(shown, zone, plot=plot)
    else:
        out.print(
            f"Nothing is known of {metric} of {shown.name} in that time. `foreshard load show` lists what is.",
            highlight=False,
        )
    if png is not None and not as_json and not as_csv:
        out.print(f"Drawn into {escape(str(png))}.", highlight=False, soft_wrap=True)


def _refuse_unknown(control: ControlDatabase, shard: str | None, bucket: str | None) -> None:
    """History may be kept of shards that are no more."""
    topology, known = TopologyStore(control), LoadStore(control).known().buckets
    if shard is not None and shard not in known and shard not in {one.name for one in topology.shards()}:
        raise InvalidInput(
            "--shard", f"{shard!r} is no shard of this fleet", remedy="`foreshard shard list`."
        )
    there = {one for buckets in known.values() for one in buckets}
    if bucket is not None and bucket not in there and bucket not in {one.name for one in topology.buckets()}:
        raise InvalidInput("--bucket", f"{bucket!r} is no bucket of this fleet")


def _series(
    control: ControlDatabase,
    shard: str | None,
    bucket: str | None,
    metric: str,
    span: tuple[datetime, datetime],
    step: Step,
) -> ShownSeries:
    store = LoadStore(control)
    known = store.known().metrics
    if metric not in known:
        remedy = f"Known are {', '.join(known)}." if known else "No load is known yet."
        raise InvalidInput("--metric", f"{metric!r} was never measured", remedy=remedy)
    values = store.series(shard, bucket, metric, *span, step.length)
    capacity = None
    if bucket is None:
        records = {record.name: record for record in TopologyStore(control).shards()}
        capacity = records[shard].capacity.get(metric) if shard in records else None
    name = " on ".join(one for one in (bucket, shard) if one is not None)
    return ShownSeries(name, metric, values, *span, step.length, capacity)


def _list(
    store: LoadStore,
    shard: str | None,
    bucket: str | None,
    span: tuple[datetime, datetime],
    zone: ZoneInfo,
    as_json: bool,
) -> None:
    """Each metric: of how many shards and buckets, from when to when, how many samples of whom was asked for."""
    rows = []
    for metric in store.known().metrics:
        if shard is None and bucket is None:
            of_shards = store.shard_series(metric, *span)
            of_buckets = store.bucket_series(metric, *span)
            found = [*of_shards.values(), *of_buckets.values()]
            about: dict[str, Any] = {"shards": len(of_shards), "buckets": len(of_buckets)}
        else:
            series = store.series(shard, bucket, metric, *span)
            expected = ShownSeries("", metric, series, *span, None).expected
            found = [series]
            about = {"samples": len(series), "step_s": None if expected is None else expected.total_seconds()}
        times = [one.index[end].to_pydatetime() for one in found if len(one) for end in (0, -1)]
        if times:
            rows.append({"metric": metric, **about, "first": min(times), "last": max(times)})
    if as_json:
        show([row | {"first": row["first"].isoformat(), "last": row["last"].isoformat()} for row in rows])
        return
    if not rows:
        out.print("Nothing was measured in that time: --since looks further back.")
        return
    whose = " on ".join(one for one in (bucket, shard) if one is not None)
    names = ("shards", "buckets") if not whose else ("samples", "step")
    title = (
        f"Load of {whose or 'the fleet'}, {span[0].astimezone(zone):%Y-%m-%d %H:%M} and later ({zone.key})"
    )
    table = Table(
        "metric", *names, "first", "last", title=title, title_justify="left", box=None, pad_edge=False
    )
    for row in rows:
        numbers = [f"{row[name]:,}" for name in ("shards", "buckets", "samples") if name in row]
        if "step_s" in row:
            numbers.append("-" if row["step_s"] is None else in_words(row["step_s"]))
        times = [f"{row[name].astimezone(zone):%Y-%m-%d %H:%M}" for name in ("first", "last")]
        table.add_row(row["metric"], *numbers, *times)
    out.print(table)


def _print(shown: ShownSeries, zone: ZoneInfo, *, plot: bool) -> None:
    begin, end = (f"{one.astimezone(zone):%Y-%m-%d %H:%M}" for one in (shown.since, shown.until))
    limit = "" if shown.capacity is None else f", capacity {with_unit(shown.capacity, shown.metric)}"
    kind = "samples" if shown.step is None else f"means of {in_words(shown.step.total_seconds())}"
    out.print(f"[bold]{shown.metric} of {escape(shown.name)}[/], {kind}{limit}", highlight=False)
    if plot:
        _print_plot(shown)
    else:
        out.print(_table(shown, zone))
        out.print(shown.sparkline(WIDTH), highlight=False)
    out.print(f"{begin}{f'{end} {zone.key}':>{WIDTH - len(begin)}}", highlight=False)


def _table(shown: ShownSeries, zone: ZoneInfo) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    for justify in ("left", "right", "right", "left"):
        table.add_column(justify=justify)
    lines: list[tuple[datetime, tuple[str, ...]]] = []
    for moment, value in shown.points:
        share = "" if shown.capacity is None else f"{value / shown.capacity:.0%}"
        bar = "━" * round(value / (shown.top or 1.0) * BAR)
        lines.append((moment, (with_unit(value, shown.metric), share, bar)))
    for begin, end in shown.gaps:
        lines.append((begin, ("[yellow]gap[/]", "", f"[yellow]{in_words((end - begin).total_seconds())}[/]")))
    form = "%Y-%m-%d %H:%M" + ("" if shown.step else ":%S")
    for moment, cells in sorted(lines, key=lambda line: line[0]):
        table.add_row(f"{moment.astimezone(zone):{form}}", *cells)
    return table


def _print_plot(shown: ShownSeries) -> None:
    cells, top = shown.cells(WIDTH), shown.top or 1.0
    limit = None if shown.capacity is None else min(PLOT_ROWS - 1, int(shown.capacity / top * PLOT_ROWS))
    for row in reversed(range(PLOT_ROWS)):
        line = ""
        for one in cells:
            filled = 0.0 if one != one else one / top * PLOT_ROWS - row  # NaN is a gap
            empty = "·" if one != one and row == 0 else "─" if row == limit else " "
            line += empty if filled <= 0 else "▁▂▃▄▅▆▇█"[min(int(filled * 8), 7)]
        label = with_unit(top, shown.metric) if row == PLOT_ROWS - 1 else ""
        out.print(line, highlight=False)
        if label:
            out.print(f"[dim]{label}[/]", highlight=False)


def _draw(shown: ShownSeries, png: Path, zone: ZoneInfo) -> None:
    from foreshard.load.plot import series_png  # matplotlib takes half a second

    try:
        png.write_bytes(series_png(shown, zone.key))
    except OSError as refused:
        raise InvalidInput("--png", f"{png} cannot be written ({refused.strerror})") from None


def _document(shown: ShownSeries, shard: str | None, bucket: str | None) -> dict[str, Any]:
    return {
        "shard": shard,
        "bucket": bucket,
        "metric": shown.metric,
        "unit": unit_of(shown.metric),
        "capacity": shown.capacity,
        "since": shown.since.isoformat(),
        "until": shown.until.isoformat(),
        "step_s": None if shown.step is None else shown.step.total_seconds(),
        "values": [[moment.isoformat(), value] for moment, value in shown.points],
        "gaps": [[begin.isoformat(), end.isoformat()] for begin, end in shown.gaps],
    }


def _write_csv(shown: ShownSeries, shard: str | None, bucket: str | None) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["ts", "shard", "bucket", "metric", "value"])
    for moment, value in shown.points:
        end = moment if shown.step is None else moment + shown.step
        writer.writerow([end.isoformat(), shard or "", bucket or "", shown.metric, value])
