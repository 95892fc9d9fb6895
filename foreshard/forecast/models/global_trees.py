"""A global model of quantile trees: one set of trees learns from all series, and predicts any."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from foreshard.errors import InvalidInput
from foreshard.forecast.band import QUANTILES, Floats
from foreshard.forecast.models.quantile_trees import Features, Growth, QuantileTrees
from foreshard.forecast.models.samples import Samples, draw, few_enough, newest_days, of_present
from foreshard.forecast.models.windows import Windows
from foreshard.forecast.panel import HOUR, Panel
from foreshard.forecast.scores import Bools
from foreshard.forecast.series import SeriesKey

THREADS = 1
"""Fits and chunks run beside each other; a second thread that waits for its turn on a busy core slows the first one."""
FEWEST_SAMPLES = 500
AT_ONCE = 250
"""Series that are predicted at a time: bounds memory."""
NO_WEEK = "no value of its last week is known"
LOOKS_BACK = 22
"""Days before an origin that features reach back."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What was known of some samples: ``features`` (samples, features), and how load and the model's scale turn into
    each other: ``to_target`` (samples,) -> (samples,), ``to_load`` (samples, 7) -> (samples, 7).
    """

    features: Features
    to_target: Callable[[Floats], Floats]
    to_load: Callable[[Floats], Floats]


class Clock:
    """The wall clock at each step of a panel and of what comes: ``hour`` 0 to 23.9, ``weekday`` 0 (Monday) to 6."""

    def __init__(self, panel: Panel, horizon: int) -> None:
        wall = panel.wall_clock(0, panel.steps + horizon)
        self.hour: Floats = np.asarray(wall.hour + wall.minute / 60.0, float)
        self.weekday: npt.NDArray[np.int64] = np.asarray(wall.weekday, np.int64)


class GlobalTrees(ABC):
    """What the tree models share: they differ in what they look at and in the scale of their target."""

    name: str
    growth: Growth
    samples: int

    @abstractmethod
    def see(self, panel: Panel, windows: Windows, samples: Samples, clock: Clock) -> Seen:
        """What is known of the samples at their origins. It looks at no step from the origin on but at the clock."""

    def fit(self, panel: Panel, horizon: int, seed: int) -> FittedTrees:
        """See ``Model.fit``.

        Raises ``InvalidInput`` (field ``values``) if there is too little history of all series together.
        """
        rng = np.random.default_rng(seed)
        shown = few_enough(panel, rng)
        drawn = draw(shown, horizon, self.samples, rng)
        if len(drawn.rows) < FEWEST_SAMPLES:
            raise InvalidInput("values", f"only {len(drawn.rows)} known values can be learnt from")
        seen, windows = self._seen(shown, drawn, horizon)
        target = seen.to_target(windows.at(drawn.rows, drawn.target))
        usable = np.isfinite(target)
        trees = QuantileTrees.grown(seen.features[usable], target[usable], self.growth, THREADS, seed)
        unknown = np.flatnonzero(~known_last_week(panel))
        return FittedTrees(self, trees, {panel.keys[row]: NO_WEEK for row in unknown})

    def restored(self, stored: bytes) -> FittedTrees:
        """What ``FittedTrees.to_bytes`` wrote."""
        return FittedTrees(self, QuantileTrees.from_bytes(stored))

    def _seen(self, panel: Panel, samples: Samples, horizon: int) -> tuple[Seen, Windows]:
        windows = Windows(panel, panel.day if panel.step >= HOUR else HOUR // panel.step)
        with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
            warnings.simplefilter("ignore", RuntimeWarning)  # means of gaps
            return self.see(panel, windows, samples, Clock(panel, horizon)), windows


@dataclass(frozen=True)
class FittedTrees:
    """Predicts any series of the same step, of at most the horizon that it was fitted for."""

    model: GlobalTrees
    trees: QuantileTrees
    refused: Mapping[SeriesKey, str] = field(default_factory=dict)

    def predict(self, panel: Panel, horizon: int) -> Floats:
        """See ``Fitted.predict``. A series without a value in the last week is NaN."""
        panel = panel.last(max(LOOKS_BACK, newest_days(panel)) * panel.day)
        quantiles = np.full((len(panel.keys), horizon, len(QUANTILES)), np.nan)
        rows = np.flatnonzero(known_last_week(panel))
        for start in range(0, len(rows), AT_ONCE):
            some = rows[start : start + AT_ONCE]
            part = panel.rows(some)
            seen, _ = self.model._seen(part, of_present(part, horizon), horizon)
            load = seen.to_load(self.trees.predict(seen.features, THREADS))
            quantiles[some] = np.sort(np.maximum(load, 0.0), axis=1).reshape(len(some), horizon, -1)
        return quantiles

    def to_bytes(self) -> bytes:
        """The trees, to be kept as the last known good."""
        return self.trees.to_bytes()


def known_last_week(panel: Panel) -> Bools:
    """Which series have a value in their last seven days, shape (series,)."""
    known: Bools = np.isfinite(panel.values[:, -7 * panel.day :]).sum(axis=1) > 0
    return known
