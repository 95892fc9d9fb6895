"""Histories of load: from files and from Prometheus into the control database."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar
from zoneinfo import ZoneInfo

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from foreshard.cli_output import AsJson, err, out, show
from foreshard.control.engine import ControlDatabase
from foreshard.control.load_import import LoadImport
from foreshard.control.load_store import LoadStore
from foreshard.control.session import session
from foreshard.control.topology_store import TopologyStore
from foreshard.errors import ConfigurationError, InvalidInput
from foreshard.load.history_file import HistoryFile, KnownFleet, Layout
from foreshard.load.history_reader import reader_of
from foreshard.load.history_summary import SeriesSummary, Summary
from foreshard.load.prometheus import PrometheusClient
from foreshard.load.prometheus_queries import Target
from foreshard.load.prometheus_settings import PrometheusSettings
from foreshard.load.prometheus_source import Part, history
from foreshard.load.timespan import duration, timespan
from foreshard.quantities import duration as in_words
from foreshard.settings import Settings

import_app = typer.Typer(no_args_is_help=True, help="Histories of load: from files and from Prometheus.")

SERIES_SHOWN = 30
Batch = TypeVar("Batch")

File = Annotated[Path, typer.Argument(help="The file.", show_default=False)]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only check it and tell what it holds; store nothing.")
]
TsColumn = Annotated[str, typer.Option(help="Column of the time: the end of what a row is the mean of.")]
TsShift = Annotated[
    str | None,
    typer.Option(
        metavar="LENGTH",
        help="Added to it: where times are the beginnings of what rows are means of, its length.",
    ),
]
ShardColumn = Annotated[str, typer.Option(help="Column of the shard.")]
OneShard = Annotated[str | None, typer.Option("--shard", help="The shard of all rows.")]
BucketColumn = Annotated[
    str | None,
    typer.Option(help="Column of the bucket; empty: the shard itself. \\[default: bucket, if there is one]"),
]
MetricColumn = Annotated[str, typer.Option(help="Column of the metric.")]
OneMetric = Annotated[str | None, typer.Option("--metric", help="The metric of all rows.")]
ValueColumn = Annotated[str, typer.Option(help="Column of the value.")]
Values = Annotated[
    list[str] | None,
    typer.Option("--value", metavar="COLUMN=METRIC", help="A column for each metric; may be repeated."),
]
Rename = Annotated[
    list[str] | None,
    typer.Option(metavar="THEIRS=OURS", help="A metric by another name; without OURS its rows are left out."),
]
Timezone = Annotated[str | None, typer.Option(help="Of times that name none, e.g. Europe/Paris.")]


class WhenChanged(StrEnum):
    """What to do with times that come twice, or never, since the clock is changed then."""

    REFUSE = "refuse"
    EARLIER = "earlier"
    LATER = "later"


ClockChange = Annotated[
    WhenChanged, typer.Option(help="Times that come twice or never in that zone: which of the two.")
]


@import_app.command("csv")
def import_csv(
    file: File,
    ts_column: TsColumn = "ts",
    ts_shift: TsShift = None,
    shard_column: ShardColumn = "shard",
    shard: OneShard = None,
    bucket_column: BucketColumn = None,
    metric_column: MetricColumn = "metric",
    metric: OneMetric = None,
    value_column: ValueColumn = "value",
    value: Values = None,
    rename: Rename = None,
    timezone: Timezone = None,
    clock_change: ClockChange = WhenChanged.REFUSE,
    delimiter: Annotated[str, typer.Option(help="Between columns.")] = ",",
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """A CSV file with a header, perhaps compressed (.gz, .zst, .bz2).

    All of it is checked before any of it is stored; a wrong value is named by line and column. Empty and NaN are gaps.
    Imported twice, nothing is stored twice. Each pass reads the file in parts of 4 MB, whatever its size.

    Examples: foreshard load import csv load.csv · foreshard load import csv vms.csv --shard shard-1
    --ts-column time --bucket-column vm --value cpu=cpu_cores --value mem=memory_bytes --timezone UTC --dry-run
    """
    layout = Layout(
        ts_column=ts_column,
        shard_column=shard_column,
        bucket_column=bucket_column,
        metric_column=metric_column,
        value_column=value_column,
        shard=shard,
        metric=metric,
        values=_pairs("--value", value),
        rename=_pairs("--rename", rename, empty=True),
        timezone=timezone,
        clock_change=clock_change.value,
        ts_shift=_shift(ts_shift),
    )
    _import_file("csv", file, layout, delimiter, dry_run, as_json)


@import_app.command("parquet")
def import_parquet(
    file: File,
    ts_column: TsColumn = "ts",
    ts_shift: TsShift = None,
    shard_column: ShardColumn = "shard",
    shard: OneShard = None,
    bucket_column: BucketColumn = None,
    metric_column: MetricColumn = "metric",
    metric: OneMetric = None,
    value_column: ValueColumn = "value",
    value: Values = None,
    rename: Rename = None,
    timezone: Timezone = None,
    clock_change: ClockChange = WhenChanged.REFUSE,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """A Parquet file. As `csv`; a wrong value is named by row and column.

    Example: foreshard load import parquet vms.parquet --bucket-column series_id --shard s1 --timezone UTC
    --rename cpu_pct_avg=cpu_cores --rename cpu_pct_max=
    """
    layout = Layout(
        ts_column=ts_column,
        shard_column=shard_column,
        bucket_column=bucket_column,
        metric_column=metric_column,
        value_column=value_column,
        shard=shard,
        metric=metric,
        values=_pairs("--value", value),
        rename=_pairs("--rename", rename, empty=True),
        timezone=timezone,
        clock_change=clock_change.value,
        ts_shift=_shift(ts_shift),
    )
    _import_file("parquet", file, layout, ",", dry_run, as_json)


@import_app.command("prometheus")
def import_prometheus(
    since: Annotated[str, typer.Option(help="From when: 42d, 24h, or a time.")],
    until: Annotated[str, typer.Option(help="Until when.")] = "now",
    step: Annotated[
        str | None, typer.Option(help="Time that each value is the mean of. \\[default: 60s, or two scrapes]")
    ] = None,
    shard: Annotated[
        list[str] | None,
        typer.Option(help="Only this one; may be repeated. \\[default: all in the settings]"),
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """What the Prometheus servers of the settings (load.prometheus) remember of the shards.

    A step in which a target was not scraped throughout is a gap. Stopped and begun again, it completes what is missing.

    Example: foreshard load import prometheus --since 42d --step 5m --shard shard-1 --dry-run
    """
    with session() as (settings, control):
        clock = settings.clock.fleet_clock()
        begin, end = timespan(since, until, clock.now(), ZoneInfo(settings.clock.timezone))
        step_s = None if step is None else int(duration("--step", step).total_seconds())
        chosen = _targets(settings, control, shard or [])
        summary, new = Summary(), 0
        with _storing(LoadStore(control), dry_run) as batch, _progress() as bars:
            task = bars.add_task("Prometheus", total=len(chosen))
            for number, (server, target) in enumerate(chosen):
                bars.update(task, description=escape(target.shard))
                with PrometheusClient(server) as client:
                    for part in history(client, target, begin, end, step_s, clock):
                        summary.add_samples(part.samples)
                        if batch is not None:
                            new += batch.add(part.samples)
                        bars.update(task, completed=number + _share(part, begin, end - begin))
    _tell("Prometheus", summary, None if dry_run else new, as_json, settings)


def _targets(
    settings: Settings, control: ControlDatabase, wanted: Collection[str]
) -> list[tuple[PrometheusSettings, Target]]:
    dsns = {record.name: record.dsn for record in TopologyStore(control).shards()}
    chosen = []
    for server in settings.load.prometheus:
        for name, known in server.shards.items():
            if name not in dsns:
                raise ConfigurationError(
                    f"load.prometheus.shards.{name}",
                    "is no shard of this fleet",
                    remedy="`foreshard shard list`.",
                )
            chosen.append((server, Target.of(name, known, dsns[name])))
    for name in wanted:
        if name not in {target.shard for _, target in chosen}:
            raise InvalidInput("--shard", f"{name!r} is in no [[load.prometheus]] of the settings")
    if not chosen:
        raise ConfigurationError(
            "load.prometheus",
            "is missing",
            remedy="Name servers and shards' targets there: docs/load.md shows how.",
        )
    return [(server, target) for server, target in chosen if not wanted or target.shard in wanted]


def _share(part: Part, begin: Any, whole: timedelta) -> float:
    return float((part.until - begin) / whole)


def _import_file(kind: str, path: Path, layout: Layout, delimiter: str, dry_run: bool, as_json: bool) -> None:
    reader = reader_of(kind, path, delimiter)
    with session() as (settings, control):
        topology = TopologyStore(control)
        shards = {record.name for record in topology.shards()}
        buckets = {bucket.name for bucket in topology.buckets()}
        file = HistoryFile(reader, layout, KnownFleet(shards, buckets, settings.clock.fleet_clock().now()))
        summary = _checked(file)
        new = None
        if not dry_run:
            with _storing(LoadStore(control), False) as batch:
                assert batch is not None
                new = sum(batch.add(samples) for samples in _shown("storing", file.samples()))
    _tell(str(path), summary, new, as_json, settings)


def _checked(file: HistoryFile) -> Summary:
    summary = Summary()
    for found in _shown("checking", file.check()):
        summary = found
    return summary


def _shown(what: str, parts: Iterable[tuple[Batch, float]]) -> Iterator[Batch]:
    with _progress() as bars:
        task = bars.add_task(what, total=1.0)
        for part, done in parts:
            yield part
            bars.update(task, completed=done)


@contextmanager
def _storing(store: LoadStore, dry_run: bool) -> Iterator[LoadImport | None]:
    """Where samples go; None in a dry run. Ctrl-C is no error: the same import completes it."""
    if dry_run:
        yield None
        return
    try:
        with store.importing("history") as batch:
            yield batch
    except KeyboardInterrupt:
        err.print("Stopped. What was stored stays; the same command completes it.", highlight=False)
        raise typer.Exit(130) from None


def _progress() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    return Progress(*columns, console=err, transient=True, disable=not err.is_terminal)


def _shift(length: str | None) -> timedelta:
    return timedelta(0) if length is None else duration("--ts-shift", length)


def _pairs(option: str, given: list[str] | None, *, empty: bool = False) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given or []:
        name, equals, other = text.rpartition("=")
        if not equals or not name or not (other or empty):
            raise InvalidInput(option, f"{text!r} is not NAME=METRIC")
        if name in found:
            raise InvalidInput(option, f"{name!r} is given twice")
        found[name] = other
    return found


def _tell(source: str, summary: Summary, new: int | None, as_json: bool, settings: Settings) -> None:
    """``new``: how many values were stored that were not there; None in a dry run."""
    series = list(summary.series())
    if as_json:
        found = {"samples": summary.samples, "without_value": summary.without_value, "new": new}
        show({"source": source, **found, "series": [_document(one) for one in series]})
        return
    zone = ZoneInfo(settings.clock.timezone)
    table = Table(
        "series", "metric", "samples", f"from ({zone.key})", "to", "step", "gaps", box=None, pad_edge=False
    )
    for one in series[:SERIES_SHOWN]:
        name = one.shard if one.bucket is None else f"{one.bucket} on {one.shard}"
        step = "-" if one.step is None else in_words(one.step.total_seconds())
        times = (f"{moment.astimezone(zone):%y-%m-%d %H:%M}" for moment in (one.first, one.last))
        table.add_row(escape(name), one.metric, f"{one.samples:,}", *times, step, f"{one.gaps:,}")
    if series:
        out.print(table)
    if len(series) > SERIES_SHOWN:
        out.print(f"... and {len(series) - SERIES_SHOWN:,} more series (--json has all).", highlight=False)
    missing = f", {summary.without_value:,} rows without a value" if summary.without_value else ""
    stored = "Nothing was stored (--dry-run)." if new is None else f"{new:,} new."
    out.print(
        f"{escape(source)}: {summary.samples:,} samples of {len(series):,} series{missing}. {stored}",
        highlight=False,
        soft_wrap=True,
    )


def _document(one: SeriesSummary) -> dict[str, Any]:
    return {
        "shard": one.shard,
        "bucket": one.bucket,
        "metric": one.metric,
        "samples": one.samples,
        "first": one.first.isoformat(),
        "last": one.last.isoformat(),
        "step_s": None if one.step is None else one.step.total_seconds(),
        "gaps": one.gaps,
    }
