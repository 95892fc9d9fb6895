"""Prophet: a trend, daily and weekly curves of the wall clock and what events do, fitted by cmdstan (in its wheel)."""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

# Prophet complains about a missing plotting library while it is imported.
logging.getLogger("prophet.plot").setLevel(logging.CRITICAL)

import cmdstanpy  # noqa: E402
from prophet import Prophet  # noqa: E402

from foreshard.forecast.band import QUANTILES, Floats  # noqa: E402
from foreshard.forecast.calendar import Event  # noqa: E402
from foreshard.forecast.models.scale import from_root, to_root  # noqa: E402
from foreshard.forecast.models.seasonal_naive import NO_VALUES  # noqa: E402
from foreshard.forecast.panel import DAY, HOUR, Panel  # noqa: E402
from foreshard.forecast.series import SeriesKey  # noqa: E402

# Two lines for every fit, and an error when L-BFGS gives up, which is no news. By its level and not disabled: whoever
# configures logging later, as Prefect does, enables all loggers again.
cmdstanpy.utils.get_logger().setLevel(logging.CRITICAL)
logging.getLogger("prophet").setLevel(logging.ERROR)

SAMPLES = 500
EVENT_PRIOR = (
    0.3  # standard deviation of an event's effect, in units of the largest root of load; Prophet's is 10
)
DAY_SHIFT = 0.8
"""Share of what the curve was off by, in the mean of the last day, that it is expected to be off by: on recorded loads
this took a quarter off the pinball loss a day ahead, and a tenth where the curve was fitted just before.
"""
HOUR_SHIFT = 0.5
"""Share of what the last hour was off by beyond that which is left an hour later."""

LOOSE = 1e10
"""Relative tolerance of the objective, in machine epsilons. With Stan's default, a million times tighter,
fits took twice the time and some line searches failed, for the same pinball loss.
"""


@dataclass(frozen=True)
class Richness:
    """How much a history of at least ``days`` lets Prophet learn: Fourier orders, and changes of the trend's slope."""

    days: int
    daily: int
    weekly: int
    yearly: int
    changepoints: int
    changepoint_prior: float


RICHNESS = (
    Richness(days=730, daily=6, weekly=4, yearly=6, changepoints=15, changepoint_prior=0.05),
    Richness(days=42, daily=6, weekly=4, yearly=0, changepoints=5, changepoint_prior=0.05),
    Richness(days=14, daily=4, weekly=2, yearly=0, changepoints=2, changepoint_prior=0.01),
)
"""Longest first. On three to four weeks a rich Prophet follows noise: 1.77 times the error of seasonal naive."""


class ProphetModel:
    """Prophet on the root of load, in local time, one for each series; below an hour on hourly means.

    Each event that its history has seen is a regressor (of the same name, whatever the year): a holiday's effect is
    learnt, of a declared effect what it was off by. 0.1 to 0.3 s of CPU for each series.
    """

    name = "prophet"

    def fit(self, panel: Panel, horizon: int, seed: int) -> FittedProphets:
        """See ``Model.fit``. Refuses series with less than two weeks between their first value and the end."""
        del horizon
        hourly = _hourly(panel)
        curves: dict[SeriesKey, _Curve] = {}
        refused: dict[SeriesKey, str] = {}
        for key, root in zip(hourly.keys, to_root(hourly.values), strict=True):
            known = np.flatnonzero(np.isfinite(root))
            if not len(known):
                refused[key] = NO_VALUES
                continue
            days = (hourly.steps - int(known[0])) * hourly.step / DAY
            rich = next((rich for rich in RICHNESS if days >= rich.days), None)
            if rich is None:
                least = RICHNESS[-1].days
                refused[key] = (
                    f"its history is {days:.1f} days long; Prophet needs {least} to tell weekdays apart"
                )
            elif 2 * len(known) < hourly.steps - known[0]:
                refused[key] = "more of its history is missing than known"
            else:
                try:
                    curves[key] = _fit(hourly, key, root, known, rich)
                except Exception as error:  # whatever Prophet and cmdstan raise: the other series go on
                    refused[key] = f"Prophet could not be fitted: {error}"
        return FittedProphets(curves, refused, seed)


@dataclass(frozen=True)
class _Curve:
    """``model`` and its regressors: for each name of an event its column."""

    model: Prophet
    columns: Mapping[str, str]

    def at(self, panel: Panel, key: SeriesKey, steps: int) -> pd.DataFrame:
        """What the curve depends on at the first ``steps`` steps of ``panel``."""
        shares = _regressors(self.columns, panel, key, panel.times(0, steps))
        return pd.DataFrame({"ds": _middles(panel, steps), **shares})

    def values(self, frame: pd.DataFrame) -> Floats:
        """The curve, as roots; Prophet's ``predict`` without what that adds for people, in a third of its time."""
        order = np.argsort(frame["ds"].to_numpy(), kind="stable")  # Prophet sorts, too
        prepared = self.model.setup_dataframe(frame.iloc[order].copy())
        features = self.model.make_all_seasonality_features(prepared)[0].to_numpy(float)
        trend = np.asarray(self.model.predict_trend(prepared), float)
        beta = np.asarray(self.model.params["beta"], float).reshape(-1, features.shape[1])[0]
        assert self.model.y_scale is not None  # it is fitted
        curve = np.empty(len(frame))
        curve[order] = trend + features @ beta * self.model.y_scale
        return curve


@dataclass(frozen=True)
class FittedProphets:
    """A curve for each series. It goes on behind the history; values that came later move it, but do not bend it."""

    curves: Mapping[SeriesKey, _Curve]
    refused: Mapping[SeriesKey, str]
    seed: int

    def predict(self, panel: Panel, horizon: int) -> Floats:
        """See ``Fitted.predict``. NaN also for series that were not fitted."""
        quantiles = np.full((len(panel.keys), horizon, len(QUANTILES)), np.nan)
        lately = _hourly(panel.last(panel.day + max(1, HOUR // panel.step))).last(
            max(1, DAY // max(panel.step, HOUR))
        )
        ahead = replace(panel, values=panel.values[:, :0], starts_at=panel.ends_at)
        hours: Floats = (
            1
            + (panel.ends_at - lately.ends_at) / HOUR
            + np.arange(horizon, dtype=float) * (panel.step / HOUR)
        )
        for row, key in enumerate(panel.keys):
            if (curve := self.curves.get(key)) is not None:
                frame = pd.concat([curve.at(lately, key, lately.steps), curve.at(ahead, key, horizon)])
                values = curve.values(frame)
                off = to_root(lately.values[row]) - values[: lately.steps]
                rng = np.random.default_rng(self.seed)
                samples = _sample_deviations(curve.model, _middles(ahead, horizon), rng)
                samples += values[lately.steps :]
                samples += _shift(off, hours)
                quantiles[row] = from_root(np.quantile(samples, QUANTILES, axis=0).T)
        return quantiles


def _hourly(panel: Panel) -> Panel:
    """A panel of steps below an hour as hourly means of what is known; longer steps as they are."""
    if panel.step >= HOUR:
        return panel
    first = -panel.starts_at.minute * timedelta(minutes=1) % HOUR // panel.step
    each = HOUR // panel.step
    hours = max(0, panel.steps - first) // each
    parts = panel.values[:, first : first + hours * each].reshape(len(panel.keys), hours, each)
    known = np.isfinite(parts)
    count = known.sum(axis=2)
    with np.errstate(invalid="ignore"):
        means = np.where(known, parts, 0.0).sum(axis=2) / np.where(count, count, np.nan)
    return Panel(
        keys=panel.keys,
        values=means.astype(np.float32),
        starts_at=panel.starts_at + first * panel.step,
        step=HOUR,
        timezone=panel.timezone,
        events=panel.events,
    )


def _fit(panel: Panel, key: SeriesKey, root: Floats, known: npt.NDArray[np.intp], rich: Richness) -> _Curve:
    """Prophet fitted to the known values by L-BFGS or, if that gives up, by Newton's slower method."""
    names = sorted({_name(event) for event in panel.events if event.concerns(key)})
    ts = panel.times(0, panel.steps)
    seen = _regressors({name: f"event{at}" for at, name in enumerate(names)}, panel, key, ts)
    columns = {name: f"event{at}" for at, name in enumerate(names) if (seen[f"event{at}"][known] > 0.0).any()}
    frame = pd.DataFrame({"ds": panel.wall_clock(0, panel.steps), "y": root})
    frame = frame.assign(**{column: seen[column] for column in columns.values()}).iloc[known]
    try:
        return _Curve(_fit_by(frame, rich, tol_rel_obj=LOOSE), columns)
    except RuntimeError:
        return _Curve(_fit_by(frame, rich, algorithm="Newton"), columns)


def _fit_by(frame: pd.DataFrame, rich: Richness, **optimiser: Any) -> Prophet:
    model = Prophet(
        growth="linear",
        n_changepoints=rich.changepoints,
        changepoint_prior_scale=rich.changepoint_prior,
        yearly_seasonality=rich.yearly or False,
        weekly_seasonality=rich.weekly,
        daily_seasonality=rich.daily,
        seasonality_mode="additive",  # on the root scale, see models.scale
        uncertainty_samples=0,  # sampled below
        stan_backend="CMDSTANPY",
    )
    for column in frame.columns.difference(["ds", "y"]):
        model.add_regressor(column, prior_scale=EVENT_PRIOR, standardize=False)
    # Prophet's own fallback would hand L-BFGS's tolerance to Newton's method, which refuses it.
    assert model.stan_backend is not None  # it has been named
    model.stan_backend.set_options(newton_fallback=False)
    with tempfile.TemporaryDirectory(prefix="foreshard-fit-") as scratch:
        model.fit(frame, output_dir=scratch, **optimiser)
    return model


def _shift(off: Floats, hours: Floats) -> Floats:
    """How far the curve is off ``hours`` after the last step, from how far it was at the steps of the last day."""
    known = np.isfinite(off)
    if not known.any():
        return np.zeros(len(hours))
    of_day = DAY_SHIFT * float(off[known].sum()) / len(off)
    of_hour = float(off[-1]) if known[-1] else of_day
    shift: Floats = of_day + (of_hour - of_day) * HOUR_SHIFT**hours
    return shift


def _middles(panel: Panel, steps: int) -> pd.DatetimeIndex:
    """The wall clock of steps as the curve means it: an hour's mean stands at its begin, so a shorter one later."""
    later = (panel.step - HOUR) / 2 if panel.step < HOUR else timedelta(0)
    return panel.wall_clock(0, steps) + pd.Timedelta(later)


def _name(event: Event) -> str:
    """The event's name without a year: Black Friday 2025 tells what Black Friday 2026 will do."""
    return re.sub(r"\b(19|20)\d\d\b", " ", event.name).strip().casefold()


def _regressors(
    columns: Mapping[str, str], panel: Panel, key: SeriesKey, ts: pd.DatetimeIndex
) -> dict[str, Floats]:
    """For each column, what share (0 to 1) of each step at ``ts`` events of that name cover."""
    shares = {column: np.zeros(len(ts)) for column in columns.values()}
    for event in panel.events:
        if event.concerns(key) and (column := columns.get(_name(event))) is not None:
            # In steps since the event's start; an event is covered from 0 to its length.
            begin = np.asarray((ts - pd.Timestamp(event.starts_at)) / panel.step)
            length = (event.ends_at - event.starts_at) / panel.step
            share = np.clip(np.minimum(begin + 1.0, length) - np.maximum(begin, 0.0), 0.0, 1.0)
            shares[column] = np.maximum(shares[column], share)
    return shares


def _sample_deviations(model: Prophet, steps: pd.DatetimeIndex, rng: np.random.Generator) -> Floats:
    """Draws of (future changes of trend + noise), shape (samples, steps), on the scale of the fitted values.

    The distribution is Prophet's: after the history, changes of slope come as a Poisson process at the rate
    of the fitted changepoints, Laplace-distributed with their mean size; noise is Gaussian. Prophet's own
    sampler draws from numpy's global generator, which threads share, and so could not be repeated.
    """
    delta = np.asarray(model.params["delta"], float).ravel()
    noise = float(np.asarray(model.params["sigma_obs"]).ravel()[0])
    assert model.start is not None  # it is fitted
    assert model.t_scale is not None
    assert model.y_scale is not None
    time = np.asarray((steps - model.start) / model.t_scale, float)  # history is 0..1
    deviations = rng.normal(0.0, noise, (SAMPLES, len(steps)))
    ahead = max(time[-1] - 1.0, 0.0)
    counts = rng.poisson(len(delta) * ahead, SAMPLES)
    for sample in np.flatnonzero(counts):
        at = 1.0 + rng.uniform(0.0, ahead, counts[sample])
        change = rng.laplace(0.0, np.abs(delta).mean() + 1e-8, counts[sample])
        deviations[sample] += (np.maximum(time[:, None] - at, 0.0) * change).sum(axis=1)
    scaled: Floats = deviations * model.y_scale
    return scaled
