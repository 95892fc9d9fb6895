"""Measuring one file: a walk on each of its grids, each in a process of its own, and the figures of both together."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from benchmarks.forecast_alarms import alarms
from benchmarks.forecast_champion import champion
from benchmarks.forecast_contestants import contestants
from benchmarks.forecast_figures import Said, figures, said
from benchmarks.forecast_panels import FINE, Grid, grid_of
from benchmarks.forecast_traces import Traces
from benchmarks.forecast_walk import Cost, Predictions, Walk, walk
from foreshard.forecast.band import Floats
from foreshard.forecast.models.candidates import NAIVE
from foreshard.forecast.panel import HOUR, Panel
from foreshard.forecast.prepared import prepared
from foreshard.forecast.scores import Bools

HORIZONS = {"h0.25": (FINE, 3), "h1": (FINE, 12), "h6": (HOUR, 6), "h24": (HOUR, 24)}
"""Grid and steps."""
CHAMPION = "champion"
_HOUR = ((FINE, 12), (HOUR, 1))
"""An hour on each grid: series sampled too coarsely for the finer one are judged on the other."""
NAMES = {HOUR: "hourly", FINE: "5-minute"}


@dataclass(frozen=True)
class Plan:
    """How thoroughly: origins every so often on each grid, series at most, and the least time between fits.

    ``candidates``: the models among which the champion is chosen.
    """

    every: Mapping[timedelta, timedelta]
    most: int
    refit: timedelta
    candidates: tuple[str, ...]
    seed: int


@dataclass(frozen=True)
class Job:
    """One grid of one file, for a process of its own."""

    file: str
    grid: Grid
    models: tuple[str, ...]
    plan: Plan

    @property
    def step(self) -> timedelta:
        """Of its grid."""
        return self.grid.panel.step


@dataclass(frozen=True, eq=False)
class Walked:
    """``said``: by model, the champion among them, quantiles of shape (origins, series, horizon, 7); ``alarms``: by
    model and steps of the horizon, probabilities of shape (origins, series); ``choosing``: what the champion's took.
    """

    walk: Walk
    said: dict[str, Floats | Predictions]
    alarms: dict[tuple[str, int], Floats]
    choosing: Cost


def jobs(traces: Traces, models: tuple[str, ...], plan: Plan) -> list[Job]:
    """Of the grids that the file's sampling allows."""
    grids = (grid_of(traces, step, plan.seed) for step in NAMES)
    return [Job(traces.name, grid, models, plan) for grid in grids if grid is not None]


def walked(job: Job) -> Walked:
    """Progress goes to standard error."""
    since = time.monotonic()

    def tell(line: str) -> None:
        name = f"{job.file} {NAMES[job.step]}"
        print(f"{name} {time.monotonic() - since:5.0f} s  {line}", file=sys.stderr, flush=True)

    tell(f"{int((~job.grid.shard).sum())} series and {int(job.grid.shard.sum())} sums of them")
    models, _ = contestants(job.models, job.plan.refit)
    horizons = {steps for step, steps in HORIZONS.values() if step == job.step}

    def prepare(panel: Panel) -> Panel:
        return prepared(panel, max(horizons)).panel

    every = job.plan.every[job.step] // job.step
    done = walk(job.grid, models, max(horizons), every, job.plan.seed, prepare, tell)
    if job.grid.coarse.any():
        horizons |= {steps for step, steps in _HOUR if step == job.step}
    ahead = sorted(horizons)
    tell("selection, calibration and alarms")
    best = champion(done, [name for name in models if name in job.plan.candidates], ahead, prepare)
    spoken: dict[str, Floats | Predictions] = {**done.predictions, CHAMPION: best.quantiles}
    warned = alarms(done, done.predictions, ahead, prepare)
    warned |= {(CHAMPION, steps): best.alarms[steps] for steps in ahead}
    for line in done.notes:
        tell(line)
    return Walked(done, spoken, warned, best.cost)


def figures_of(name: str, models: Sequence[str], of: Mapping[timedelta, Walked]) -> dict[str, object]:
    """All figures of a file, by key."""
    found: dict[str, object] = {}
    for horizon, (step, steps) in HORIZONS.items():
        for group in ("bucket", "shard"):
            for model in (*models, CHAMPION):
                if parts := _parts(of, step, steps, group == "shard", model):
                    costs = _costs(of[parts[0][0]], model)
                    here = {**figures([each for _, each in parts]), **costs}
                    found |= {f"{name}.{group}.{horizon}.{model}.{key}": value for key, value in here.items()}
    return found


def _parts(
    of: Mapping[timedelta, Walked], step: timedelta, steps: int, shard: bool, model: str
) -> list[tuple[timedelta, Said]]:
    """Series on the horizon's own grid and, for an hour, those that are sampled too coarsely for it."""
    rows_of: list[tuple[timedelta, int, Callable[[Grid], Bools]]] = [
        (step, steps, lambda grid: grid.shard == shard)
    ]
    if (step, steps) == _HOUR[0]:
        rows_of.append((*_HOUR[1], lambda grid: (grid.shard == shard) & grid.coarse))
    found = []
    for on, ahead, rows in rows_of:
        if on in of and (wanted := rows(of[on].walk.grid)).any():
            here, alarm = of[on], of[on].alarms[model, ahead]
            found.append((on, said(here.walk, here.said[model], wanted, ahead, here.said.get(NAIVE), alarm)))
    return found


def _costs(of: Walked, model: str) -> dict[str, object]:
    """CPU seconds for one series: of a fit, of a forecast; the champion's are those of all models, and its own."""
    done = of.walk
    names = list(done.fits) if model == CHAMPION else [model]
    fit = sum(done.fits[name].each for name in names)
    predict = sum(done.forecasts[name].each for name in names) + (
        of.choosing.each if model == CHAMPION else 0.0
    )
    return {
        "fit_cpu_s": float(f"{fit:.3g}") if np.isfinite(fit) else None,
        "predict_cpu_s": float(f"{predict:.3g}") if np.isfinite(predict) else None,
    }
