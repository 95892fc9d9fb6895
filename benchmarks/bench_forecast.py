"""How good forecasts are, model by model: rolling origins over recorded loads.

    python -m benchmarks.bench_forecast --traces load.parquet --json forecast.json
    python -m benchmarks.bench_forecast --traces a.parquet b.parquet --models seasonal_naive,lightgbm
    python -m benchmarks.bench_forecast --traces a.parquet --quick
    python -m benchmarks.bench_forecast --scale 10000

A file has the columns series_id, ts, metric and value: any sampling up to an hour, any calendar, gaps, four days
at least. Six minutes for a file of 100 series on two cores.

Figures are <file>.<bucket|shard>.<h0.25|h1|h6|h24>.<model or champion>.<figure>; benchmarks/README.md says what
they mean, and how they are measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.forecast_champion import Chosen, champion, exceedance
from benchmarks.forecast_contestants import KNOWN, contestants
from benchmarks.forecast_figures import Said, figures, said
from benchmarks.forecast_panels import FINE, grid_of
from benchmarks.forecast_traces import Traces, read_traces
from benchmarks.forecast_walk import Contestant, Tell, Walk, cpu, walk
from foreshard.errors import InvalidInput
from foreshard.forecast.panel import DAY, HOUR, Panel
from foreshard.forecast.scores import Bools
from tests.stress.report import machine

HORIZONS = {"h0.25": (FINE, 3), "h1": (FINE, 12), "h6": (HOUR, 6), "h24": (HOUR, 24)}
CHAMPION = "champion"
NAIVE = "seasonal_naive"
WIDTH = 120
PACKAGES = ("numpy", "pandas", "lightgbm", "statsforecast", "prophet", "torch")
SHOWN = {"rel_wql": "pinball", "rel_mase": "MASE", "not_worse_share": "not worse", "coverage90": "90 %"}


@dataclass(frozen=True)
class Plan:
    """How thoroughly: origins every so often on each grid, series at most, and the least time between fits."""

    every: Mapping[timedelta, timedelta]
    most: int
    refit: timedelta
    seed: int


def measure(
    traces: Traces, models: Mapping[str, Contestant], plan: Plan, tell: Tell
) -> tuple[dict[str, object], list[str]]:
    """Figures of one file by key, and what was left out of it."""
    notes = list(traces.notes)
    walks: dict[timedelta, tuple[Walk, Chosen, float]] = {}
    for step in (HOUR, FINE):
        if (grid := grid_of(traces, step, plan.seed)) is None:
            continue
        name = "hourly" if step == HOUR else "5-minute"
        notes += [f"{name}: {note}" for note in grid.notes]
        horizon = max(steps for of, steps in HORIZONS.values() if of == step)
        tell(f"{name}: {int((~grid.shard).sum())} series and {int(grid.shard.sum())} sums of them")
        walked = walk(grid, models, horizon, plan.every[step] // step, plan.seed, _as_it_is, tell)
        notes += [f"{name}: {note}" for note in walked.notes]
        before = cpu()
        chosen = champion(walked)
        walks[step] = (walked, chosen, cpu() - before)
    if not walks:
        raise InvalidInput("traces", f"{traces.name}: nothing is known long enough to be judged")
    found: dict[str, object] = {}
    for horizon_name, (step, steps) in HORIZONS.items():
        for group in ("bucket", "shard"):
            for model in (*models, CHAMPION):
                parts = _parts(walks, step, steps, group == "shard", model)
                if parts:
                    of = {**figures([each for each, _ in parts]), **_costs(walks[parts[0][1]], model)}
                    found |= {
                        f"{traces.name}.{group}.{horizon_name}.{model}.{key}": value
                        for key, value in of.items()
                    }
    return found, notes


def _parts(
    walks: Mapping[timedelta, tuple[Walk, Chosen, float]],
    step: timedelta,
    steps: int,
    shard: bool,
    model: str,
) -> list[tuple[Said, timedelta]]:
    """Series on the horizon's own grid and, for an hour, those that are sampled too coarsely for it."""
    wanted: list[tuple[timedelta, int, Callable[[Walk], Bools]]] = [
        (step, steps, lambda walked: walked.grid.shard == shard)
    ]
    if step * steps == HOUR:
        wanted.append((HOUR, 1, lambda walked: (walked.grid.shard == shard) & walked.grid.coarse))
    found = []
    for of, ahead, rows_of in wanted:
        if of not in walks or not (rows := rows_of(walks[of][0])).any():
            continue
        walked, chosen, _ = walks[of]
        quantiles = chosen.quantiles if model == CHAMPION else walked.predictions[model]
        naive = walked.predictions.get(NAIVE)
        found.append((said(walked, quantiles, rows, ahead, naive, exceedance), of))
    return found


def _costs(of: tuple[Walk, Chosen, float], model: str) -> dict[str, object]:
    """CPU seconds for one series: of a fit, and of a forecast; the champion's are those of all models and its own."""
    walked, _, choosing = of
    names = list(walked.fits) if model == CHAMPION else [model]
    predict = sum(walked.forecasts[name].each for name in names)
    if model == CHAMPION:
        predict += choosing / max(1, int(walked.judged.sum()))
    fit = sum(walked.fits[name].each for name in names)
    return {"fit_cpu_s": _short(fit), "predict_cpu_s": _short(predict)}


def _short(value: float) -> float | None:
    return float(f"{value:.3g}") if np.isfinite(value) else None


def _as_it_is(panel: Panel) -> Panel:
    return panel


def show(console: Console, name: str, found: Mapping[str, object], models: Sequence[str]) -> None:
    """A table for each group: models down, horizons across."""
    for group in ("bucket", "shard"):
        at_horizon = {
            horizon: found[key]
            for horizon in HORIZONS
            if (key := f"{name}.{group}.{horizon}.{CHAMPION}.series") in found
        }
        table = Table(title=f"{name}, {group}s: {', '.join(SHOWN.values())}", title_justify="left")
        table.add_column("model")
        for horizon, series in at_horizon.items():
            table.add_column(f"{horizon} ({series} series)", justify="right")
        for model in models:
            cells = []
            for horizon in at_horizon:
                values = (found.get(f"{name}.{group}.{horizon}.{model}.{key}") for key in SHOWN)
                cells.append(" ".join("  - " if value is None else f"{value:.2f}" for value in values))
            table.add_row(model, *cells)
        console.print(table)


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure file by file, print a table of each, and write all figures."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--traces", nargs="+", type=Path, metavar="FILE", default=[])
    options.add_argument("--json", type=Path, metavar="FILE")
    options.add_argument(
        "--models", metavar="NAMES", default=",".join(KNOWN), help="with commas between; default: all"
    )
    options.add_argument("--seed", type=int, default=1)
    options.add_argument(
        "--every-hours", type=int, default=6, help="between origins of the hourly grid; default: 6"
    )
    options.add_argument(
        "--every-minutes", type=int, default=120, help="the same of the 5-minute grid; default: 120"
    )
    options.add_argument("--quick", action="store_true", help="20 series, few origins: a look")
    chosen = options.parse_args(arguments)
    if not chosen.traces:
        options.error("nothing to measure: give --traces FILE")
    try:
        return _run(chosen)
    except InvalidInput as error:
        print(f"bench_forecast: {error}", file=sys.stderr)
        return 2


def _run(chosen: argparse.Namespace) -> int:
    began = time.monotonic()
    plan = _plan(chosen)
    if chosen.json is not None and not chosen.json.parent.is_dir():
        raise InvalidInput("json", f"there is no folder {chosen.json.parent}")
    if len({file.stem for file in chosen.traces}) < len(chosen.traces):
        raise InvalidInput("traces", "two files have the same name; figures bear the files' names")
    # All of them before the first is measured: a bad one is told at once and not after an hour.
    all_traces = [read_traces(file, plan.seed, plan.most) for file in chosen.traces]
    models, absent = contestants(chosen.models.split(","), plan.refit)
    if not models:
        raise InvalidInput("models", f"none of them can be used here ({'; '.join(absent)})")
    for line in absent:
        print(line, file=sys.stderr)
    found: dict[str, object] = {}
    notes: dict[str, list[str]] = {"models": absent}
    for traces in all_traces:
        started = time.monotonic()

        def tell(line: str, name: str = traces.name, since: float = started) -> None:
            print(f"{name} {time.monotonic() - since:5.0f} s  {line}", file=sys.stderr, flush=True)

        of_file, notes[traces.name] = measure(traces, models, plan, tell)
        for line in notes[traces.name]:
            tell(line)
        found |= of_file
        show(_console(), traces.name, of_file, [*models, CHAMPION])
        if chosen.json is not None:
            document = {**found, "about": about(plan.seed, time.monotonic() - began, notes)}
            chosen.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


def _console() -> Console:
    console = Console()
    return console if console.width >= WIDTH else Console(width=WIDTH)


def _plan(chosen: argparse.Namespace) -> Plan:
    if chosen.every_hours < 1 or chosen.every_minutes < 5:
        raise InvalidInput("every", "origins are an hour, on the 5-minute grid five minutes, apart at least")
    if chosen.quick:
        return Plan({HOUR: 12 * HOUR, FINE: 12 * HOUR}, 20, 4 * DAY, chosen.seed)
    every = {HOUR: chosen.every_hours * HOUR, FINE: timedelta(minutes=chosen.every_minutes)}
    return Plan(every, 400, DAY, chosen.seed)


if __name__ == "__main__":
    sys.exit(main())
