"""Exponential smoothing (statsforecast): a level, by the hour a daily season, and a trend where one is plain to see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from scipy.stats import norm

from foreshard.forecast.band import QUANTILES, Floats
from foreshard.forecast.models.scale import from_log, to_log
from foreshard.forecast.models.seasonal_naive import NO_VALUES
from foreshard.forecast.panel import HOUR, Panel
from foreshard.forecast.series import SeriesKey

WINDOW = 14
"""Days that are learnt from. With three weeks fits took twice the time and forecasts were no better."""
WINDOW_FINE = 2
"""The same below an hour, where there is no season: one of 288 states cannot be fitted."""

_FEWEST = 8  # known values; statsforecast needs as many for the smallest model
_SEASONS = 3  # whole days from which on a daily season is fitted
_PLAIN = 0.8  # share of the variance between days that a straight line explains where there is a trend
_SHORT = 3  # steps; a longer gap is filled with the time of day's mean rather than a straight line
_WIDE = 90  # per cent: the interval that is asked for; the errors are normal, so it tells all quantiles
_OF_WIDE = norm.ppf(QUANTILES) / norm.ppf(0.5 + _WIDE / 200)


class Ets:
    """ETS with additive errors (Hyndman et al., 2008) of log(1 + 10 load / its mean), one for each series.

    About 25 ms of CPU for a fit, 1 ms for a forecast. Seasons follow UTC: two days in a year are an hour off.
    """

    name = "ets"

    def fit(self, panel: Panel, horizon: int, seed: int) -> FittedEts:
        """See ``Model.fit``. Nothing is random; of each series the last two weeks count (below an hour, two days)."""
        del horizon, seed
        window = panel.last((WINDOW if panel.step >= HOUR else WINDOW_FINE) * panel.day)
        season = panel.day if panel.step >= HOUR else 1
        learnt: dict[SeriesKey, _Learnt] = {}
        refused: dict[SeriesKey, str] = {}
        for key, values in zip(panel.keys, window.values.astype(float), strict=True):
            try:
                learnt[key] = _fit(values, window, season)
            except _TooFewError as few:
                refused[key] = str(few)
            except Exception as error:  # whatever statsforecast raises: the other series go on
                refused[key] = f"exponential smoothing failed: {error}"
        return FittedEts(learnt, refused)


class _TooFewError(Exception):
    """Says what a series lacks."""


@dataclass(frozen=True)
class _Learnt:
    """``model``: an AutoETS; its states begin at ``starts_at``, ``scale`` is the load that counts as ten."""

    model: Any
    scale: float
    starts_at: datetime


@dataclass(frozen=True)
class FittedEts:
    """Parameters and first states of each series; later values only move the states."""

    learnt: Mapping[SeriesKey, _Learnt]
    refused: Mapping[SeriesKey, str]

    def predict(self, panel: Panel, horizon: int) -> Floats:
        """See ``Fitted.predict``. NaN also for series that were not fitted, or that are now all gaps."""
        quantiles = np.full((len(panel.keys), horizon, len(QUANTILES)), np.nan)
        for row, key in enumerate(panel.keys):
            if (learnt := self.learnt.get(key)) is not None:
                quantiles[row] = _predict(learnt, panel, panel.values[row].astype(float), horizon)
        return quantiles


def _fit(values: Floats, panel: Panel, season: int) -> _Learnt:
    # Some three seconds the first time: whoever does without this model does without them.
    from statsforecast.models import AutoETS

    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        raise _TooFewError(NO_VALUES)
    values = values[known[0] :]
    if len(known) < _FEWEST or 2 * len(known) < len(values):
        raise _TooFewError(
            f"{len(known)} of {len(values)} values are known, too few for exponential smoothing"
        )
    scale = float(np.mean(values[np.isfinite(values)])) or 1.0
    season = season if len(values) >= _SEASONS * season else 1
    smooth = _without_gaps(to_log(values, scale), panel.day)
    trend = _has_trend(smooth, season)
    model = AutoETS(season, f"A{'A' if trend else 'N'}{'A' if season > 1 else 'N'}", damped=trend).fit(smooth)
    # Only what later forecasts take their states from: states and residuals of 10,000 series are a gigabyte.
    model.model_ = {name: model.model_[name] for name in ("m", "components", "par", "fit", "n_params")}
    return _Learnt(model, scale, panel.starts_at + int(known[0]) * panel.step)


def _predict(learnt: _Learnt, panel: Panel, values: Floats, horizon: int) -> Floats:
    # From where the states begin or, if the panel does not reach back, whole days later: seasons stay in place.
    first = (learnt.starts_at - panel.starts_at) // panel.step
    values = values[first if first >= 0 else first % panel.day :]
    if not np.isfinite(values).any():
        return np.full((horizon, len(QUANTILES)), np.nan)
    smooth = _without_gaps(to_log(values, learnt.scale), panel.day)
    predicted = learnt.model.forward(smooth, h=horizon, level=[_WIDE])
    mean, half = predicted["mean"], predicted[f"hi-{_WIDE}"] - predicted["mean"]
    return from_log(mean[:, None] + half[:, None] * _OF_WIDE, learnt.scale)


def _has_trend(values: Floats, season: int) -> bool:
    """Whether a straight line explains most of what differs between days (without a season, between parts)."""
    length = season if season > 1 else len(values) // 8
    parts = len(values) // length if length else 0
    if parts < 5:
        return False
    means = values[len(values) - parts * length :].reshape(parts, length).mean(axis=1)
    if means.std() == 0:
        return False
    return bool(np.corrcoef(means, np.arange(parts))[0, 1] ** 2 > _PLAIN)


def _without_gaps(values: Floats, day: int) -> Floats:
    """Short gaps bridged by a straight line, long ones filled with the time of day's mean; first to last step."""
    gap = ~np.isfinite(values)
    if not gap.any():
        return values
    step = np.arange(len(values))
    filled: Floats = np.interp(step, step[~gap], values[~gap])
    edges = np.flatnonzero(np.diff(np.concatenate([[False], gap, [False]]).astype(int)))
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        if end - start > _SHORT:
            for at in range(start, end):
                same = values[at % day :: day]
                if np.isfinite(same).any():
                    filled[at] = np.nanmean(same)
    return filled
