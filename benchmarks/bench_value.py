"""What prediction is worth: recorded loads replayed on fleets that saturate if nothing is moved.

    python -m benchmarks.bench_value --traces vms.parquet services.parquet --json value.json
    python -m benchmarks.bench_value --traces vms.parquet --shapes 6_skewed --seeds 1 --days 4
    python -m benchmarks.bench_value --traces vms.parquet --ways none,reactive,oracle  # no forecasts: minutes
    python -m benchmarks.bench_value --traces vms.parquet --policy '{"relief_probability": 0.1}'

A file has the columns series_id, ts, metric and value. All fleets of a file are replayed at the same time, so that one
forecast serves them all. Figures are <file>.<shape>.gap_closed, .bytes_over_reactive and <file>.<shape>.<way>.<figure>;
benchmarks/README.md says what they mean.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before LightGBM is loaded: a file has a core to itself

from rich.console import Console
from rich.table import Table

from benchmarks.bench_forecast import about
from foreshard.errors import InvalidInput
from foreshard.forecast.panel import DAY, HOUR
from foreshard.load.trace_file import Recorded, read_trace
from foreshard.planning.policy import DecisionPolicy
from foreshard.simulate.comparison import summary
from foreshard.simulate.contender import Way, contenders
from foreshard.simulate.foresight import Pace
from foreshard.simulate.scenario import Shape, fleet
from foreshard.simulate.simulation import Schedule, simulate

SHAPES = {"6_skewed": Shape(6, skew=1.0), "10": Shape(10), "6_one_empty": Shape(6, empty=1)}
BUCKETS = 60
WIDTH = 120
WARM_UP = 14 * DAY
MOST_DAYS = 28
MODELS = ("seasonal_naive", "lightgbm_direct", "lightgbm")
"""Those of the default candidates that are fitted to all series together: of hundreds of forecasts of dozens of series
the others' fits, one a series, would take hours, and they are seldom among the champions.
"""


@dataclass(frozen=True)
class Job:
    """One file, for a process of its own."""

    file: Path
    shapes: tuple[str, ...]
    seeds: tuple[int, ...]
    ways: tuple[Way, ...]
    policy: DecisionPolicy
    pace: Pace
    days: float | None


@dataclass(frozen=True)
class Done:
    """``figures`` by shape; ``fleets``: those of every single replay."""

    figures: dict[str, dict[str, Any]]
    fleets: list[dict[str, Any]]
    notes: list[str]
    seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay file by file, print a table of each, and write all figures."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--traces", nargs="+", type=Path, metavar="FILE", required=True)
    options.add_argument("--json", type=Path, metavar="FILE")
    options.add_argument("--shapes", default=",".join(SHAPES), metavar="NAMES", help="default: %(default)s")
    options.add_argument("--ways", default=",".join(Way), metavar="NAMES", help="default: %(default)s")
    options.add_argument(
        "--seeds", type=int, default=2, help="start placements of each shape; default: %(default)s"
    )
    options.add_argument("--days", type=float, help="replay so many; default: all after the warm-up")
    options.add_argument(
        "--policy", default="{}", metavar="JSON", help="other than the default decision policy"
    )
    options.add_argument("--every-hours", type=int, default=4, help="between forecasts; default: %(default)s")
    options.add_argument("--refit-days", type=int, default=5, help="between fits; default: %(default)s")
    options.add_argument(
        "--origins", type=int, default=8, help="past forecasts to judge by; default: %(default)s"
    )
    options.add_argument("--step-minutes", type=int, default=60, help="of forecasts; default: %(default)s")
    options.add_argument("--ahead-hours", type=int, default=24, help="of forecasts; default: %(default)s")
    options.add_argument(
        "--of-means", action="store_true", help="forecast the means of steps, not the highest loads"
    )
    options.add_argument(
        "--processes", type=int, default=min(2, os.cpu_count() or 1), help="default: %(default)s"
    )
    chosen = options.parse_args(arguments)
    try:
        _measure(chosen)
    except InvalidInput as error:
        print(f"bench_value: {error}", file=sys.stderr)
        return 2
    return 0


def _measure(chosen: argparse.Namespace) -> None:
    began = time.monotonic()
    found: dict[str, object] = {}
    notes: dict[str, list[str]] = {}
    # The longest first: it decides when all is done.
    jobs = [_job(file, chosen) for file in sorted(chosen.traces, key=lambda one: -one.stat().st_size)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max(1, chosen.processes), context) as pool:
        for job, done in [(job, pool.submit(replayed, job)) for job in jobs]:
            result = done.result()
            name = job.file.stem
            notes[name] = [*result.notes, f"{result.seconds:.0f} s"]
            for shape, figures in result.figures.items():
                found |= _flat(f"{name}.{shape}", figures)
            found[f"{name}.fleets"] = result.fleets
            show(name, result)
            if chosen.json is not None:
                document = {
                    **found,
                    "about": about(1, time.monotonic() - began, notes) | {"arguments": _said(chosen)},
                }
                chosen.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _said(chosen: argparse.Namespace) -> dict[str, Any]:
    """How it was asked for, without the files' places."""
    return {name: value for name, value in vars(chosen).items() if name not in ("traces", "json")}


def _job(file: Path, chosen: argparse.Namespace) -> Job:
    pace = Pace(
        step=timedelta(minutes=chosen.step_minutes),
        ahead=chosen.ahead_hours * 60 // chosen.step_minutes,
        every=chosen.every_hours * HOUR,
        refit=chosen.refit_days * DAY,
        history=21 * DAY,
        models=MODELS,
        origins=chosen.origins,
        of_highest=not chosen.of_means,
    )
    shapes = tuple(chosen.shapes.split(","))
    if unknown := set(shapes) - SHAPES.keys():
        raise InvalidInput("shapes", f"{', '.join(sorted(unknown))} is none of {', '.join(SHAPES)}")
    ways = tuple(Way(way) for way in chosen.ways.split(","))
    policy = DecisionPolicy(**json.loads(chosen.policy))
    return Job(file, shapes, tuple(range(1, chosen.seeds + 1)), ways, policy, pace, chosen.days)


def replayed(job: Job) -> Done:
    """Every shape with every seed, under every contender. Progress goes to standard error."""
    began = time.monotonic()
    recorded: Recorded = read_trace(job.file, buckets=BUCKETS, most_days=MOST_DAYS)
    trace = recorded.trace
    first = min(int(WARM_UP / trace.step), trace.steps // 2 // trace.day * trace.day)
    until = trace.steps if job.days is None else min(trace.steps, first + int(job.days * trace.day))
    fleets = [
        fleet(f"{shape}/{seed}", trace, SHAPES[shape], first, until, seed)
        for shape in job.shapes
        for seed in job.seeds
    ]
    every = max(1, (until - first) // 20)

    def tell(done: int, of: int) -> None:
        if done % every == 0 or done == of:
            seconds = time.monotonic() - began
            print(f"{job.file.stem} {seconds:5.0f} s  {done / of:4.0%}", file=sys.stderr, flush=True)

    outcomes = simulate(
        trace, fleets, contenders(job.ways), job.policy, job.pace, Schedule(first, until), tell
    )
    by_shape = {shape: [one for one in outcomes if one.fleet.startswith(f"{shape}/")] for shape in job.shapes}
    notes = [
        f"{len(trace.names)} buckets, {trace.step} steps, {(until - first) / trace.day:.1f} days replayed after "
        f"{first / trace.day:.0f} of warm-up",
        *recorded.notes,
    ]
    return Done(
        {shape: summary(of) for shape, of in by_shape.items()},
        [one.figures() for one in outcomes],
        notes,
        time.monotonic() - began,
    )


def _flat(name: str, figures: Mapping[str, Any]) -> dict[str, object]:
    ways = figures["ways"]
    ours = ways.get(Way.PREDICTIVE.value, {})
    found: dict[str, object] = {
        f"{name}.gap_closed": ours.get("gap_closed"),
        f"{name}.bytes_over_reactive": ours.get("bytes_over_reactive"),
        f"{name}.reactive_threshold": figures["reactive_threshold"],
    }
    for way, of in ways.items():
        found |= {f"{name}.{way}.{figure}": value for figure, value in of.items()}
    return found


def show(name: str, done: Done) -> None:
    """A row for each way of each shape."""
    console = Console()
    if console.width < WIDTH:
        console = Console(width=WIDTH)
    table = Table(title=name, title_justify="left")
    for column in (
        "shape",
        "way",
        "saturated min",
        "%",
        "TB",
        "moves",
        "undone",
        "worst",
        "stretch",
        "gap",
        "bytes x",
    ):
        table.add_column(column, justify="left" if column in ("shape", "way") else "right")
    for shape, figures in done.figures.items():
        for way, of in figures["ways"].items():
            said = f"{way} {figures['reactive_threshold']:g}" if way == Way.REACTIVE else way
            table.add_row(
                shape, said, f"{of['saturated_shard_minutes']:.0f}", f"{of['saturated_share']:.2%}",
                f"{of['bytes'] / 1e12:.2f}", str(of["moves"]), str(of["moves_undone"]),
                f"{of['worst_utilisation']:.2f}", f"{of['latency_stretch_mean']:.2f}",
                _ratio(of["gap_closed"]), _ratio(of["bytes_over_reactive"]),
            )  # fmt: skip
        table.add_section()
    console.print(table)
    for note in done.notes:
        console.print(f"  {note}", markup=False, highlight=False)


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
