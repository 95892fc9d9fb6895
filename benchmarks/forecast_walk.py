"""Rolling origins: every model says, again and again, what it can say of the steps to come."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import psutil

from benchmarks.forecast_panels import Grid
from benchmarks.forecast_traces import Steps
from foreshard.forecast.band import QUANTILES, Floats
from foreshard.forecast.models.model import Fitted, Model
from foreshard.forecast.panel import DAY, Panel
from foreshard.forecast.scores import Bools

Tell = Callable[[str], None]
Predictions = npt.NDArray[np.float32]

DAYS_BACK = 7
"""How far a gap in yesterday's values is filled from: the same time of the days before."""


@dataclass(frozen=True)
class Contestant:
    """``refit``: the least time between two fits. A ``local`` model is fitted only to what it will be asked about."""

    model: Model
    refit: timedelta = DAY
    local: bool = False


@dataclass
class Cost:
    """CPU seconds, children's included, and of how many series in all."""

    seconds: float = 0.0
    series: int = 0

    @property
    def each(self) -> float:
        """Of one series, once; NaN if there was none."""
        return self.seconds / self.series if self.series else float("nan")


@dataclass(frozen=True, eq=False)
class Walk:
    """What was said at each of ``origins``, and what came. NaN where a series has no part in an origin.

    ``predictions``: by model, float32 of shape (origins, series, horizon, 7); ``reference``: yesterday's values,
    and ``truth``: (origins, series, horizon); ``threshold``: 95th percentile of what was known, ``judged``: within the
    series' window and not only before it, both (origins, series).
    """

    grid: Grid
    origins: Steps
    predictions: dict[str, Predictions]
    reference: Floats
    truth: Floats
    threshold: Floats
    judged: Bools
    fits: dict[str, Cost] = field(default_factory=dict)
    forecasts: dict[str, Cost] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def horizon(self) -> int:
        """Steps ahead."""
        return int(self.truth.shape[2])

    def come(self, origins: list[int], turn: int) -> Floats:
        """Truth of earlier ``origins`` as far as it had come when origin number ``turn`` began; NaN is still ahead."""
        step = self.origins[origins, None, None] + np.arange(self.horizon)
        known: Floats = np.where(step < self.origins[turn], self.truth[origins], np.nan)
        return known


def walk(
    grid: Grid,
    contestants: Mapping[str, Contestant],
    horizon: int,
    every: int,
    seed: int,
    prepare: Callable[[Panel], Panel],
    tell: Tell,
) -> Walk:
    """From the window before the judged one to the end, ``every`` so many steps.

    Models are given ``prepare`` (what was known): the truth stays as it was recorded. A model that fails keeps its
    last fit; what it says nothing of stays NaN.
    """
    started = -(-(grid.end - 2 * grid.window) // every) * every
    origins = np.arange(int(started.min()), int(grid.end.max()), every)
    shape = (len(origins), len(grid.end), horizon)
    done = Walk(
        grid=grid,
        origins=origins,
        predictions={name: np.full((*shape, len(QUANTILES)), np.nan, np.float32) for name in contestants},
        reference=np.full(shape, np.nan),
        truth=np.full(shape, np.nan),
        threshold=np.full(shape[:2], np.nan),
        judged=(origins[:, None] >= grid.end - grid.window) & (origins[:, None] < grid.end),
        fits={name: Cost() for name in contestants},
        forecasts={name: Cost() for name in contestants},
    )
    steps = {name: max(1, each.refit // grid.panel.step) for name, each in contestants.items()}
    fitted: dict[str, tuple[int, Fitted]] = {}
    began = told = time.monotonic()
    for turn, origin in enumerate(origins.tolist()):
        active = np.flatnonzero((origin >= started) & (origin < grid.end))
        recorded = grid.history.seen(origin)
        seen = prepare(recorded)
        done.reference[turn, active] = yesterday(recorded.rows(active), horizon)
        if done.judged[turn].any():
            done.threshold[turn, active] = percentile(recorded.values[active], 0.95)
        for name, each in contestants.items():
            if name not in fitted or origin >= fitted[name][0] + steps[name]:
                until = origin + steps[name] if each.local else origin + 1
                taught = (grid.end > origin) & ((started < until) if each.local else (grid.first < origin))
                if (new := _fit(done, name, each.model, seen.rows(np.flatnonzero(taught)), seed)) is not None:
                    fitted[name] = (origin, new)
            if name in fitted:
                done.predictions[name][turn, active] = _predict(
                    done, name, fitted[name][1], seen.rows(active)
                )
        if time.monotonic() - told > 15:
            told = time.monotonic()
            tell(f"origin {turn + 1} of {len(origins)}, {told - began:.0f} s")
    # Only now, by the other call: no model is asked any more.
    for turn, origin in enumerate(origins.tolist()):
        active = np.flatnonzero((origin >= started) & (origin < grid.end))
        done.truth[turn, active] = grid.history.truth(origin, horizon)[active]
    return done


def yesterday(seen: Panel, horizon: int) -> Floats:
    """The last day's values at the same times, shape (series, horizon); a gap is filled from up to a week before."""
    day, values = seen.day, seen.values.astype(float)
    said = np.full((len(values), horizon), np.nan)
    ahead = np.arange(horizon)
    for back in range(DAYS_BACK):
        at = seen.steps + ahead - (ahead // day + 1 + back) * day
        there = np.where(at >= 0, values[:, np.maximum(at, 0)], np.nan)
        said = np.where(np.isnan(said), there, said)
    return said


def percentile(values: npt.NDArray[np.float32], level: float) -> Floats:
    """Of each row's known values, shape (series,); NaN of a row without any. As ``numpy.nanquantile``, faster."""
    ordered = np.sort(values, axis=1)  # gaps go last
    count = np.isfinite(ordered).sum(axis=1)
    at = np.maximum(count - 1, 0) * level
    below, above = (
        np.take_along_axis(ordered, index.astype(np.intp)[:, None], axis=1)[:, 0].astype(float)
        for index in (np.floor(at), np.ceil(at))
    )
    found: Floats = np.where(count > 0, below + (at - np.floor(at)) * (above - below), np.nan)
    return found


def cpu() -> float:
    """CPU seconds of this process and of all children, those that have ended and those that have not."""
    spent = sum(os.times()[:4])
    for child in psutil.Process().children(recursive=True):
        try:
            spent += sum(child.cpu_times()[:2])
        except psutil.Error:
            continue  # it has just ended
    return float(spent)


def _fit(done: Walk, name: str, model: Model, panel: Panel, seed: int) -> Fitted | None:
    before = cpu()
    try:
        return model.fit(panel, done.horizon, seed)
    except Exception as error:  # of any library: the others go on
        _note(done, f"{name} could not be fitted: {type(error).__name__}: {error}")
        return None
    finally:
        done.fits[name].seconds += cpu() - before
        done.fits[name].series += len(panel.keys)


def _predict(done: Walk, name: str, fitted: Fitted, panel: Panel) -> Floats:
    before = cpu()
    try:
        return fitted.predict(panel, done.horizon)
    except Exception as error:  # of any library
        _note(done, f"{name} could not predict: {type(error).__name__}: {error}")
        return np.full((len(panel.keys), done.horizon, len(QUANTILES)), np.nan)
    finally:
        done.forecasts[name].seconds += cpu() - before
        done.forecasts[name].series += len(panel.keys)


def _note(done: Walk, text: str) -> None:
    line = text.splitlines()[0]
    if line not in done.notes:
        done.notes.append(line)
