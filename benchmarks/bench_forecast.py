"""How good forecasts are, model by model: rolling origins over recorded loads.

    python -m benchmarks.bench_forecast --traces load.parquet --json forecast.json
    python -m benchmarks.bench_forecast --traces a.parquet b.parquet --models seasonal_naive,lightgbm
    python -m benchmarks.bench_forecast --traces a.parquet --quick
    python -m benchmarks.bench_forecast --scale 10000 --json scale.json

A file has the columns series_id, ts, metric and value: any sampling up to an hour, any calendar, gaps, four days
at least. Six minutes for a file of 100 series on two cores.

--scale makes up so many buckets and takes the time, CPU and memory of an hour's forecasts of them.

Figures are <file>.<bucket|shard>.<h0.25|h1|h6|h24>.<model or champion>.<figure>; benchmarks/README.md says what
they mean, and how they are measured.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version

from rich.console import Console
from rich.table import Table

from benchmarks.forecast_contestants import KNOWN, contestants
from benchmarks.forecast_measurement import (
    CHAMPION,
    HORIZONS,
    NAMES,
    Job,
    Plan,
    Walked,
    figures_of,
    jobs,
    walked,
)
from benchmarks.forecast_panels import FINE
from benchmarks.forecast_scale import scale
from benchmarks.forecast_traces import MOST_SERIES, read_traces
from foreshard.errors import InvalidInput
from foreshard.forecast.models.candidates import DEFAULT, NAIVE
from foreshard.forecast.panel import DAY, HOUR
from tests.stress.report import machine

PACKAGES = ("numpy", "pandas", "lightgbm", "statsforecast", "prophet", "torch")
WIDTH = 120
SHOWN = {
    "rel_wql": "pinball",
    "rel_mase": "MASE",
    "not_worse_share": "not worse",
    "coverage90": "within 90 %",
}

Walking = Callable[[Job], Callable[[], Walked]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure file by file, print a table of each, and write all figures."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--traces", nargs="+", type=Path, metavar="FILE", default=[])
    options.add_argument("--json", type=Path, metavar="FILE")
    options.add_argument("--models", metavar="NAMES", default=",".join(KNOWN), help="default: %(default)s")
    options.add_argument("--scale", type=int, metavar="SERIES", help="also, or only: so many made-up series")
    options.add_argument(
        "--candidates", metavar="NAMES", default=",".join(DEFAULT), help="champions are chosen among them"
    )
    options.add_argument("--seed", type=int, default=1)
    options.add_argument(
        "--every-hours", type=int, default=6, help="between origins of the hourly grid; default: 6"
    )
    options.add_argument("--every-minutes", type=int, default=120, help="of the 5-minute grid; default: 120")
    options.add_argument(
        "--processes", type=int, default=min(2, os.cpu_count() or 1), help="default: %(default)s"
    )
    options.add_argument(
        "--quick", action="store_true", help="20 series and few origins, in this process: a look"
    )
    chosen = options.parse_args(arguments)
    if not chosen.traces and chosen.scale is None:
        options.error("nothing to measure: give --traces FILE or --scale SERIES")
    try:
        _measure(chosen)
    except InvalidInput as error:
        print(f"bench_forecast: {error}", file=sys.stderr)
        return 2
    return 0


def _measure(chosen: argparse.Namespace) -> None:
    began = time.monotonic()
    plan = _plan(chosen)
    if chosen.json is not None and not chosen.json.parent.is_dir():
        raise InvalidInput("json", f"there is no folder {chosen.json.parent}")
    if len({file.stem for file in chosen.traces}) < len(chosen.traces):
        raise InvalidInput("traces", "two files have the same name; figures bear the files' names")
    # All of them before the first is measured: a bad one is told at once and not after an hour.
    files = [read_traces(file, plan.seed, plan.most) for file in chosen.traces]
    there, absent = contestants(tuple(dict.fromkeys((NAIVE, *chosen.models.split(",")))), plan.refit)
    if not there:
        raise InvalidInput("models", f"none of them can be used here ({'; '.join(absent)})")
    notes: dict[str, list[str]] = {"models": absent}
    found: dict[str, object] = {}

    def keep() -> None:
        if chosen.json is not None:
            document = {**found, "about": about(plan.seed, time.monotonic() - began, notes)}
            chosen.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

    with _walking(1 if chosen.quick else chosen.processes) as start:
        models = tuple(there)
        started = [(traces, [(job, start(job)) for job in jobs(traces, models, plan)]) for traces in files]
        for traces, walks in started:
            if not walks:
                raise InvalidInput("traces", f"{traces.name}: nothing is known for long enough to be judged")
            done = {job.step: result() for job, result in walks}
            notes[traces.name] = list(traces.notes) + [
                f"{NAMES[step]}: {note}"
                for step, each in done.items()
                for note in (*each.walk.grid.notes, *each.walk.notes)
            ]
            of_file = figures_of(traces.name, models, done)
            found |= of_file
            show(traces.name, of_file, [*models, CHAMPION], [*absent, *notes[traces.name]])
            keep()
    if chosen.scale is not None:
        found |= scale(chosen.scale, plan.seed, lambda line: print(line, file=sys.stderr, flush=True))
        show_scale(found)
        keep()


def _plan(chosen: argparse.Namespace) -> Plan:
    if chosen.every_hours < 1 or chosen.every_minutes < 5:
        raise InvalidInput("every", "origins are an hour apart at least, on the 5-minute grid five minutes")
    if chosen.scale is not None and chosen.scale < 1:
        raise InvalidInput("scale", f"{chosen.scale} is no number of series")
    if chosen.processes < 1:
        raise InvalidInput("processes", f"{chosen.processes} is no number of processes")
    candidates = (NAIVE, *chosen.candidates.split(","))
    if chosen.quick:
        return Plan({HOUR: 12 * HOUR, FINE: 12 * HOUR}, 20, 4 * DAY, candidates, chosen.seed)
    every = {HOUR: chosen.every_hours * HOUR, FINE: timedelta(minutes=chosen.every_minutes)}
    return Plan(every, MOST_SERIES, DAY, candidates, chosen.seed)


@contextmanager
def _walking(processes: int) -> Iterator[Walking]:
    """How jobs are started: at once, side by side, or when their result is asked for, in this process."""
    if processes == 1:
        yield lambda job: partial(walked, job)
        return
    # A process has a core to itself; libraries that start threads of their own would only be in each other's way.
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        try:
            yield lambda job: pool.submit(walked, job).result
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def show(name: str, found: Mapping[str, object], models: Sequence[str], notes: Sequence[str]) -> None:
    """A table for each group, models down and horizons across, and what was left out."""
    console = Console()
    if console.width < WIDTH:
        console = Console(width=WIDTH)
    for group in ("bucket", "shard"):
        series = {
            horizon: found[key]
            for horizon in HORIZONS
            if (key := f"{name}.{group}.{horizon}.{CHAMPION}.series") in found
        }
        table = Table(title=f"{name}, {group}s: {', '.join(SHOWN.values())}", title_justify="left")
        table.add_column("model")
        for horizon, count in series.items():
            table.add_column(f"{horizon} ({count} series)", justify="right")
        for model in models:
            cells = []
            for horizon in series:
                values = (found[f"{name}.{group}.{horizon}.{model}.{figure}"] for figure in SHOWN)
                cells.append(
                    " ".join(f"{value:.2f}" if isinstance(value, float) else "   -" for value in values)
                )
            table.add_row(model, *cells)
        console.print(table)
    for note in notes:
        console.print(f"  {note}", markup=False, highlight=False)


def show_scale(found: Mapping[str, object]) -> None:
    """The figures of ``scale``, one a row."""
    table = Table("figure", "value", title="scale", title_justify="left")
    for name, value in found.items():
        if name.startswith("scale."):
            table.add_row(name, str(value))
    Console().print(table)


def about(seed: int, seconds: float, notes: Mapping[str, Sequence[str]]) -> dict[str, object]:
    """When, where and with what; ``notes``: what was left out, by file."""
    versions = {"python": python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": machine(),
        "versions": versions,
        "seed": seed,
        "seconds": round(seconds, 1),
        "notes": {name: list(lines) for name, lines in notes.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
