"""The seasonal naive: at this time tomorrow load is as it is today, give or take what a day usually changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from foreshard.forecast.band import QUANTILES, Floats
from foreshard.forecast.models.scale import from_root, to_root
from foreshard.forecast.panel import DAY, HOUR, Panel
from foreshard.forecast.series import SeriesKey

Steps = npt.NDArray[np.int64]

NO_VALUES = "no value is known"

_WEEK = 7  # days; how far back a gap is filled from, and the furthest horizon with a spread of its own
_ENOUGH = 12  # changes at which a time of day's own spread and the wider one count alike
_RECENT = 42  # days whose changes count
_RECENT_FINE = 14  # the same below an hour, where each day holds more of them
_ROWS = 500  # series at a time: bounds memory


class SeasonalNaive:
    """The fallback for any series, and the yardstick for every other model."""

    name = "seasonal_naive"

    def fit(self, panel: Panel, horizon: int, seed: int) -> FittedNaive:
        """See ``Model.fit``. There is nothing to learn and nothing random; refuses series without a value."""
        del horizon, seed
        known = np.isfinite(to_root(panel.values)).sum(axis=1)
        return FittedNaive({panel.keys[row]: NO_VALUES for row in np.flatnonzero(known == 0)})


@dataclass(frozen=True)
class FittedNaive:
    """Says of each series what that series' own last days say; of series it never saw, too."""

    refused: Mapping[SeriesKey, str] = field(default_factory=dict)

    def predict(self, panel: Panel, horizon: int) -> Floats:
        """See ``Fitted.predict``. The median is the value a day before (if that is a gap, up to a week before).

        The other quantiles are those of the changes from day to day (over two days, beyond the first day of the
        horizon, and so on), at about the same time of day, on the root scale.
        """
        quantiles = np.full((len(panel.keys), horizon, len(QUANTILES)), np.nan)
        days = _RECENT if panel.step >= HOUR else _RECENT_FINE
        panel = panel.last((days + _WEEK) * panel.day)
        if not panel.steps:
            return quantiles
        clock = _Clock(panel, horizon)
        for start in range(0, len(panel.keys), _ROWS):
            root = to_root(panel.values[start : start + _ROWS])
            quantiles[start : start + _ROWS] = from_root(
                _last_known(root, clock)[:, :, None] + _spread(root, clock)
            )
        return quantiles


class _Clock:
    """Which steps of the panel are at the same time of day, whole days apart on the wall clock."""

    def __init__(self, panel: Panel, horizon: int) -> None:
        seconds = panel.wall_clock(0, panel.steps + horizon).to_numpy("datetime64[s]").astype(np.int64)
        wall = seconds // int(panel.step.total_seconds())
        self.day = panel.day
        self.past: Steps = wall[: panel.steps]
        self.future: Steps = wall[panel.steps :]
        self.hour: Steps = wall % panel.day // max(1, HOUR // panel.step)
        self.hours = int(max(1, DAY // max(HOUR, panel.step)))
        # Of an hour that comes twice, when clocks go back, the later one is meant.
        order = np.argsort(self.past, kind="stable")
        self._wall, self._step = self.past[order], order

    def before(self, wall: Steps, days: Steps | int) -> Steps:
        """The step that many ``days`` before each of ``wall``, or -1 where the panel has none."""
        wanted = wall - days * self.day
        at = np.searchsorted(self._wall, wanted, side="right") - 1
        return np.where((at >= 0) & (self._wall[at] == wanted), self._step[at], -1)

    @property
    def days_ahead(self) -> Steps:
        """How many days before each step of the horizon its last known day lies: 1 for the first 24 hours."""
        return 1 + np.arange(len(self.future)) // self.day


def _last_known(root: Floats, clock: _Clock) -> Floats:
    """The last known value at each future step's time of day or, if it has none, of all; (series, horizon)."""
    newest = root.shape[1] - 1 - np.argmax(np.isfinite(root[:, ::-1]), axis=1)
    values = np.full((len(root), len(clock.future)), np.nan)
    for back in range(_WEEK):
        step = clock.before(clock.future, clock.days_ahead + back)
        values = np.where(np.isnan(values) & (step >= 0), root[:, step], values)
    return np.where(np.isnan(values), np.take_along_axis(root, newest[:, None], axis=1), values)


def _spread(root: Floats, clock: _Clock) -> Floats:
    """Quantiles of the changes over the days ahead, about zero; shape (series, horizon, 7)."""
    spread = np.empty((len(root), len(clock.future), len(QUANTILES)))
    # With too few days to see a change, what two values drawn from the series differ by.
    with np.errstate(invalid="ignore"):
        count = np.isfinite(root).sum(axis=1)
        mean = np.nansum(root, axis=1) / np.maximum(count, 1)
        variance = np.nansum((root - mean[:, None]) ** 2, axis=1) / np.maximum(count, 1)
    unknown = np.sqrt(2.0 * variance)[:, None] * norm.ppf(QUANTILES)
    past_hour, future_hour = clock.hour[: len(clock.past)], clock.hour[len(clock.past) :]
    for days in np.unique(np.minimum(clock.days_ahead, _WEEK)):
        step = clock.before(clock.past, int(days))
        changed = np.where(step >= 0, root - root[:, step], np.nan)[:, -_most(clock) :]
        at_hour = past_hour[-changed.shape[1] :]
        of_all = _quantiles(changed, unknown)
        ahead = np.minimum(clock.days_ahead, _WEEK) == days
        for hour in np.unique(future_hour[ahead]):
            apart = np.abs(at_hour - hour)
            near = np.minimum(apart, clock.hours - apart) <= 1
            spread[:, ahead & (future_hour == hour)] = _quantiles(changed[:, near], of_all)[:, None]
    # The median stays the value that was; a trend shows in the other quantiles.
    middle = QUANTILES.index(0.5)
    spread[..., :middle] = np.minimum(spread[..., :middle], 0.0)
    spread[..., middle] = 0.0
    spread[..., middle + 1 :] = np.maximum(spread[..., middle + 1 :], 0.0)
    return spread


def _most(clock: _Clock) -> int:
    return (_RECENT if clock.day <= clock.hours else _RECENT_FINE) * clock.day


def _quantiles(changes: Floats, wider: Floats) -> Floats:
    """Quantiles of each row's known changes, the fewer there are the more drawn to ``wider``; (series, 7)."""
    ordered = np.sort(changes, axis=1)  # gaps go last
    count = np.isfinite(ordered).sum(axis=1)[:, None]
    if not ordered.shape[1]:
        return wider
    at = np.maximum(count - 1, 0) * np.asarray(QUANTILES)
    below = np.take_along_axis(ordered, np.floor(at).astype(np.intp), axis=1)
    above = np.take_along_axis(ordered, np.ceil(at).astype(np.intp), axis=1)
    own = np.where(count > 0, below + (at - np.floor(at)) * (above - below), 0.0)
    drawn: Floats = (count * own + _ENOUGH * wider) / (count + _ENOUGH)
    return drawn
