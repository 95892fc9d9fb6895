"""`foreshard forecast`: the newest forecast as a list, and one of its series as a table, a plot, a picture or data."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.markup import escape
from rich.table import Table

from foreshard.cli_output import AsJson, out, show
from foreshard.control.engine import ControlDatabase
from foreshard.control.forecast_store import ForecastRecord, ForecastStore
from foreshard.control.session import session
from foreshard.control.topology_store import TopologyStore
from foreshard.errors import InvalidInput, NotFound
from foreshard.forecast.band import QUANTILES
from foreshard.forecast.forecast_settings import StepMinutes
from foreshard.forecast.peak import PEAK_LEVELS
from foreshard.forecast.result import ForecastResult
from foreshard.forecast.series import SeriesKey
from foreshard.load.shown_series import unit_of, with_unit
from foreshard.quantities import chance
from foreshard.quantities import duration as in_words
from foreshard.settings import Settings

commands = typer.Typer()

BUCKETS_SHOWN = 40
PEAK_SHOWN = 0.9
EXAMPLES = (
    "Examples: foreshard forecast · foreshard forecast --series shard-1/cpu_cores --plot · "
    "foreshard forecast --series b0007/queries_per_s --step 5 --png b0007.png"
)


@commands.command(rich_help_panel="Look", epilog=EXAMPLES)
def forecast(
    series: Annotated[
        str | None,
        typer.Option(
            metavar="NAME/METRIC",
            help="Of this shard or bucket, e.g. b0007/queries_per_s. Where both are named alike: shard:NAME/METRIC.",
        ),
    ] = None,
    plot: Annotated[bool, typer.Option("--plot", help="Draw it here, in place of the table.")] = False,
    png: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw it into this file.")] = None,
    run: Annotated[
        int | None, typer.Option(min=1, help="This forecast. \\[default: the newest]", show_default=False)
    ] = None,
    step: Annotated[int | None, typer.Option(help="The newest in steps of 5, 15 or 60 minutes.")] = None,
    every: Annotated[bool, typer.Option("--all", help="List all buckets, not the busiest only.")] = False,
    as_json: AsJson = False,
) -> None:
    """The newest forecast: every series with its model, score, coverage, peak, and P(exceed); or one of them in full.

    A score is the loss at past origins relative to the seasonal naive's: below 1 is better. Coverage is the share of
    past values that lay within the 90 % band. P(exceed): the capacity is exceeded at some time up to the horizon.
    """
    _check_options(series, plot, png, run, step)
    with session() as (settings, control):
        record = _record(control, run, step)
        if series is None:
            results = ForecastStore(control).results(record.id)
            _refuse_empty(record, results)
            _list(control, record, results, every=every, as_json=as_json)
        else:
            _one(
                control, settings, record, _find(control, record, series), plot=plot, png=png, as_json=as_json
            )


def _check_options(
    series: str | None, plot: bool, png: Path | None, run: int | None, step: int | None
) -> None:
    if series is None and (plot or png is not None):
        raise InvalidInput("--series", "is missing: a plot is of one series")
    if png is not None and png.suffix != ".png":
        raise InvalidInput("--png", f"{png} does not end in .png")
    if step is not None and step not in StepMinutes.__args__:  # type: ignore[attr-defined]
        raise InvalidInput("--step", f"{step} is none of 5, 15 and 60 minutes")
    if run is not None and step is not None:
        raise InvalidInput("--step", "and --run exclude each other: a run has its step")


def _record(control: ControlDatabase, run: int | None, step: int | None) -> ForecastRecord:
    store = ForecastStore(control)
    if run is not None:
        return store.get(run)
    newest = store.newest(None if step is None else timedelta(minutes=step))
    if newest is None:
        of = "" if step is None else f" in steps of {step} minutes"
        raise NotFound(f"There is no forecast{of} yet.", remedy="Run the forecast flow.")
    return newest


def _refuse_empty(record: ForecastRecord, results: Mapping[SeriesKey, ForecastResult]) -> None:
    if not results:
        raise NotFound(
            f"The bands of forecast {record.id} are no longer kept.",
            remedy="forecast.keep_days says how long.",
        )


def _find(control: ControlDatabase, record: ForecastRecord, series: str) -> ForecastResult:
    """The series of that name; a name may hold anything, its metric no slash."""
    store = ForecastStore(control)
    text, kind = series, None
    for one in ("shard", "bucket"):
        if series.startswith(f"{one}:"):
            kind, text = one, series.removeprefix(f"{one}:")
    name, slash, metric = text.rpartition("/")
    found = []
    if name and slash and metric:
        keys = {"shard": SeriesKey(name, None, metric), "bucket": SeriesKey(None, name, metric)}
        asked = (store.result(record.id, key) for of, key in keys.items() if kind in (None, of))
        found = [one for one in asked if one is not None]
    if len(found) > 1:
        raise InvalidInput(
            "--series",
            f"{series!r} is a shard and a bucket.",
            remedy=f"Say shard:{series} or bucket:{series}.",
        )
    if not found:
        results = store.results(record.id)
        _refuse_empty(record, results)
        near = [str(key) for key in results if text in (key.shard, key.bucket)]
        near = near or get_close_matches(text, map(str, results), n=4, cutoff=0.5)
        remedy = f"Did you mean {', '.join(near)}?" if near else "`foreshard forecast` lists the series."
        raise InvalidInput("--series", f"{series!r} is not in forecast {record.id}.", remedy=remedy)
    return found[0]


def _list(
    control: ControlDatabase,
    record: ForecastRecord,
    results: Mapping[SeriesKey, ForecastResult],
    *,
    every: bool,
    as_json: bool,
) -> None:
    capacities = {shard.name: shard.capacity for shard in TopologyStore(control).shards()}

    def capacity(one: ForecastResult) -> float | None:
        return capacities.get(one.key.shard or "", {}).get(one.key.metric)

    if as_json:
        show(_about(record) | {"series": [_summary(one, capacity(one)) for one in results.values()]})
        return
    shards = sorted(
        (one for one in results.values() if one.key.shard is not None), key=lambda one: str(one.key)
    )
    buckets = sorted((one for one in results.values() if one.key.shard is None), key=lambda one: -_peak(one))
    shown = buckets if every else buckets[:BUCKETS_SHOWN]
    _print_head(record)
    table = Table(box=None, pad_edge=False)
    for name in ("series", "model", "score", "coverage", f"peak (q{PEAK_SHOWN:g})", "capacity", "P(exceed)"):
        table.add_column(name, justify="left" if name in ("series", "model") else "right")
    for one in [*shards, *shown]:
        table.add_row(*_cells(one, capacity(one)))
    out.print(table)
    if len(shown) < len(buckets):
        out.print(
            f"... and {len(buckets) - len(shown):,} buckets with lower peaks: --all lists them.",
            highlight=False,
        )


def _cells(one: ForecastResult, capacity: float | None) -> tuple[str, ...]:
    risk = "" if capacity is None else chance(one.peak.above(capacity))
    note = "*" if one.note else ""
    return (
        escape(str(one.key)) + note,
        one.model,
        "" if one.score is None else f"{one.score:.2f}",
        "" if one.coverage is None else f"{one.coverage:.0%}",
        with_unit(_peak(one), one.key.metric),
        "" if capacity is None else with_unit(capacity, one.key.metric),
        f"[bold red]{risk}[/]" if capacity is not None and one.peak.above(capacity) >= 0.5 else risk,
    )


def _print_head(record: ForecastRecord) -> None:
    ahead = f"{record.horizon_hours:g} h in steps of {in_words(record.step.total_seconds())}"
    out.print(
        f"[bold]Forecast {record.id}[/] of {record.issued_at:%Y-%m-%d %H:%M} UTC (fleet clock), {ahead}, "
        f"{record.series:,} series",
        highlight=False,
    )
    for note in record.notes:
        out.print(f"[yellow]{escape(note)}[/]", highlight=False)


def _one(
    control: ControlDatabase,
    settings: Settings,
    record: ForecastRecord,
    result: ForecastResult,
    *,
    plot: bool,
    png: Path | None,
    as_json: bool,
) -> None:
    from foreshard.control.forecast_picture import capacity_of, read_picture  # matplotlib takes half a second
    from foreshard.forecast_plot import forecast_png
    from foreshard.forecast_text_plot import text_plot

    capacity = capacity_of(control, result.key)
    drawn = read_picture(control, settings, record, result) if plot or png is not None else None
    if png is not None and drawn is not None:
        try:
            png.write_bytes(forecast_png(drawn))
        except OSError as refused:
            raise InvalidInput("--png", f"{png} cannot be written ({refused.strerror})") from None
    if as_json:
        show(_about(record) | _document(result, capacity))
        return
    _print_head(record)
    risk = "" if capacity is None else f", P(exceed) {chance(result.peak.above(capacity))}"
    out.print(
        f"[bold]{escape(str(result.key))}[/] by {result.model}{_judged(result)}: "
        f"peak (q{PEAK_SHOWN:g}) {with_unit(_peak(result), result.key.metric)}{risk}",
        highlight=False,
    )
    if result.note:
        out.print(f"[yellow]{escape(result.note)}[/]", highlight=False)
    if plot and drawn is not None:
        for line in text_plot(drawn):
            out.print(line, soft_wrap=True)
    else:
        out.print(_table(result, ZoneInfo(settings.clock.timezone)))
    if png is not None:
        out.print(f"Drawn into {escape(str(png))}.", highlight=False, soft_wrap=True)


def _judged(result: ForecastResult) -> str:
    score = "" if result.score is None else f", score {result.score:.2f}"
    return score + ("" if result.coverage is None else f", coverage {result.coverage:.0%}")


def _table(result: ForecastResult, zone: ZoneInfo) -> Table:
    table = Table(
        f"{zone.key}", *(f"q{level:g}" for level in QUANTILES), box=None, pad_edge=False,
        title=unit_of(result.key.metric), title_justify="left",
    )  # fmt: skip
    for column in table.columns[1:]:
        column.justify = "right"
    for ts, quantiles in zip(result.band.ts, result.band.quantiles, strict=True):
        table.add_row(f"{ts.astimezone(zone):%Y-%m-%d %H:%M}", *(f"{one:,.4g}" for one in quantiles))
    return table


def _peak(result: ForecastResult) -> float:
    return float(result.peak.values[PEAK_LEVELS.index(PEAK_SHOWN)])


def _about(record: ForecastRecord) -> dict[str, Any]:
    return {
        "run": record.id,
        "issued_at": record.issued_at.isoformat(),
        "horizon_hours": record.horizon_hours,
        "step_s": record.step.total_seconds(),
        "notes": list(record.notes),
    }


def _summary(one: ForecastResult, capacity: float | None) -> dict[str, Any]:
    return {
        "shard": one.key.shard,
        "bucket": one.key.bucket,
        "metric": one.key.metric,
        "unit": unit_of(one.key.metric),
        "model": one.model,
        "score": one.score,
        "coverage": one.coverage,
        "capacity": capacity,
        "p_exceed": None if capacity is None else one.peak.above(capacity),
        "peak": dict(zip(map(str, PEAK_LEVELS), one.peak.values.tolist(), strict=True)),
        "points": one.points,
        "note": one.note,
    }


def _document(one: ForecastResult, capacity: float | None) -> dict[str, Any]:
    return _summary(one, capacity) | {
        "weights": dict(one.weights),
        "scores": dict(one.scores),
        "trained_from": one.trained_from,
        "trained_to": one.trained_to,
        "starts_at": one.band.ts[0].isoformat(),
        "levels": list(QUANTILES),
        "quantiles": one.band.quantiles.tolist(),
    }
