"""`foreshard simulate`: what a policy would have been worth on this history."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from foreshard.cli_output import err, out
from foreshard.errors import InvalidInput
from foreshard.forecast.forecast_settings import ModelName
from foreshard.forecast.panel import DAY, HOUR
from foreshard.planning.policy import DecisionPolicy
from foreshard.simulate.comparison import compared, summary
from foreshard.simulate.contender import Way, contenders
from foreshard.simulate.fleet import Fleet
from foreshard.simulate.foresight import Pace
from foreshard.simulate.outcome import Outcome
from foreshard.simulate.scenario import Shape
from foreshard.simulate.scenario import fleet as drawn_fleet
from foreshard.simulate.simulation import Schedule, simulate
from foreshard.simulate.trace import Trace

commands = typer.Typer()

WARM_UP = 14 * DAY
LEAST_BUCKETS = 8
"""A shard: of fewer than a handful there is little to choose from."""
QUICK_MODELS = "seasonal_naive,lightgbm_direct,lightgbm"
EXAMPLES = (
    "Examples: foreshard simulate --days 7 --page value.html · foreshard simulate --traces vms.parquet --shards 6 · "
    "foreshard simulate --traces vms.parquet --policies none,reactive,oracle --json value.json"
)


@commands.command("simulate", rich_help_panel="Decide", epilog=EXAMPLES)
def simulate_policies(
    traces: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Parquet or CSV with series_id, ts, metric and value: a series is a bucket, shards are made up. "
            "\\[default: the fleet and its load in the control database]",
            show_default=False,
        ),
    ] = None,
    shards: Annotated[int, typer.Option(min=2, max=500, help="With --traces: so many shards.")] = 6,
    buckets: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=5000,
            help="With --traces: so many buckets. \\[default: one a series, 8 a shard at least]",
            show_default=False,
        ),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="With --traces: of the file's metrics this one alone.")
    ] = None,
    days: Annotated[
        float, typer.Option(min=0.5, help="Replay the last days; what is before is learnt from.")
    ] = 7.0,
    policies: Annotated[
        str, typer.Option(metavar="NAMES", help="Which are compared, of " + ", ".join(Way) + ".")
    ] = ",".join(Way),
    models: Annotated[
        str, typer.Option(metavar="NAMES", help="That compete for `predictive`; ets and prophet take long.")
    ] = QUICK_MODELS,
    every: Annotated[int, typer.Option(min=1, max=24, help="Hours from one forecast to the next.")] = 1,
    refit: Annotated[int, typer.Option(min=1, help="Hours after which global models are fitted anew.")] = 24,
    seed: Annotated[int, typer.Option(help="Of made-up fleets and of models.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="All figures.")] = None,
    page: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="A page with plots, which needs nothing beside it."),
    ] = None,
) -> None:
    """Replay policies on history: what each saturates, moves and costs. Nothing is changed.

    The planner that decides is the one that `decide` uses; forecasts are made only from what was known at each moment;
    migrations take their time and load both ends. `reactive` acts on the present load, with the best of four
    thresholds; `naive` forecasts last week's load again; `oracle` knows what comes.
    """
    ways, names = _ways(policies), _models(models)
    for option, file in (("--json", json_file), ("--page", page)):
        if file is not None and not file.absolute().parent.is_dir():
            raise InvalidInput(option, f"there is no folder {file.parent}")
    if traces is None:
        if buckets is not None or metric is not None:
            raise InvalidInput("--traces", "is missing: --buckets and --metric are of a file")
        trace, fleet, policy, notes = _of_control(days)
        schedule = _schedule(trace, days)
    else:
        from foreshard.load.trace_file import read_trace

        recorded = read_trace(traces, buckets=buckets, least=LEAST_BUCKETS * shards, metric=metric, seed=seed)
        trace, notes, policy = recorded.trace, recorded.notes, DecisionPolicy()
        schedule = _schedule(trace, days)
        fleet = drawn_fleet(traces.stem, trace, Shape(shards), schedule.first, schedule.until, seed)
    pace = Pace(every=every * HOUR, refit=refit * HOUR, models=names, seed=seed)
    outcomes = _replayed(trace, fleet, ways, policy, pace, schedule)
    found = summary(outcomes)
    _show(fleet, trace, schedule, found, notes)
    if json_file is not None:
        document = {**found, "replays": [one.figures() for one in outcomes], "notes": list(notes)}
        json_file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if page is not None:
        from foreshard.simulation_page import simulation_page  # matplotlib takes half a second

        title = f"What prediction is worth: {fleet.name}"
        page.write_text(simulation_page(title, found, compared(outcomes), notes), encoding="utf-8")
        out.print(f"Page: {escape(str(page))}", highlight=False)


def _ways(text: str) -> tuple[Way, ...]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in list(Way)]
    if unknown or not names:
        said = f"names {', '.join(unknown)}" if unknown else "names none"
        raise InvalidInput("--policies", said, remedy=f"Choose among {', '.join(Way)}.")
    return tuple(way for way in Way if way in names)


def _models(text: str) -> tuple[str, ...]:
    known = ModelName.__args__  # type: ignore[attr-defined]
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        said = f"names {', '.join(unknown)}" if unknown else "names none"
        raise InvalidInput("--models", said, remedy=f"Choose among {', '.join(known)}.")
    return names


def _of_control(days: float) -> tuple[Trace, Fleet, DecisionPolicy, tuple[str, ...]]:
    from foreshard.control.session import session
    from foreshard.control.simulate_input import simulate_input

    with session() as (settings, control):
        now = settings.clock.fleet_clock().now()
        history = timedelta(days=days) + max(WARM_UP, settings.forecast.history_days * DAY)
        zone = ZoneInfo(settings.clock.timezone)
        trace, fleet = simulate_input(control, now, history, HOUR, zone)
        return trace, fleet, settings.decision, ()


def _schedule(trace: Trace, days: float) -> Schedule:
    """The last ``days``, whole days of history before them; half of what there is where it is short."""
    until = trace.steps
    wanted = until - round(days * trace.day)
    least = min(int(WARM_UP / trace.step), until // 2)
    first = -(-max(wanted, least) // trace.day) * trace.day
    return Schedule(first, until)


def _replayed(
    trace: Trace, fleet: Fleet, ways: Sequence[Way], policy: DecisionPolicy, pace: Pace, schedule: Schedule
) -> list[Outcome]:
    columns = (
        TextColumn("replaying"),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task("", total=schedule.until - schedule.first)
        try:
            return simulate(
                trace,
                [fleet],
                contenders(tuple(ways)),
                policy,
                pace,
                schedule,
                lambda done, _: progress.update(task, completed=done),
            )
        except KeyboardInterrupt:
            progress.stop()
            err.print("Interrupted: nothing was written.")
            raise typer.Exit(130) from None


def _show(
    fleet: Fleet, trace: Trace, schedule: Schedule, found: dict[str, Any], notes: Sequence[str]
) -> None:
    days = (schedule.until - schedule.first) / trace.day
    out.print(
        f"[bold]{days:.1f} days[/] from {trace.at(schedule.first):%Y-%m-%d %H:%M} UTC, {len(fleet.shards)} shards, "
        f"{len(trace.names):,} buckets, steps of {trace.step.total_seconds() / 60:.0f} min",
        highlight=False,
    )
    table = Table(box=None, pad_edge=False)
    heads = (
        "policy",
        "saturated min",
        "of all",
        "worst",
        "latency",
        "moved",
        "undone",
        "GB",
        "gap",
    )
    for head in heads:
        table.add_column(head, justify="left" if head == "policy" else "right")
    for way, of in found["ways"].items():
        name = f"{way} above {found['reactive_threshold']:.0%}" if way == Way.REACTIVE else way
        gap = "" if of["gap_closed"] is None else f"{of['gap_closed']:.0%}"
        table.add_row(
            name,
            f"{of['saturated_shard_minutes']:,.0f}",
            f"{of['saturated_share']:.2%}",
            f"{of['worst_utilisation']:.2f}",
            f"{of['latency_stretch_mean']:.2f}",
            f"{of['moves']:,}",
            str(of["moves_undone"]),
            f"{of['bytes'] / 1e9:,.0f}",
            gap,
        )
    out.print(table)
    out.print(
        "Saturated: minutes, summed over shards. Latency: in service times. Gap: of what oracle spares over reactive.",
        highlight=False,
    )
    for note in notes:
        out.print(f"[yellow]{escape(note)}[/]", highlight=False)
