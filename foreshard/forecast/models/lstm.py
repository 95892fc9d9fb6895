"""A global quantile LSTM (PyTorch, the extra ``lstm``): one network learns from all series and predicts any of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from foreshard.errors import ConfigurationError, InvalidInput
from foreshard.forecast.band import QUANTILES, Floats
from foreshard.forecast.models.global_trees import NO_WEEK, known_last_week
from foreshard.forecast.models.scale import TENTH
from foreshard.forecast.panel import HOUR, Panel
from foreshard.forecast.series import SeriesKey

if TYPE_CHECKING:
    from foreshard.forecast.models import lstm_network

Rows = npt.NDArray[np.intp]

NEWEST_WINDOWS = 2_000
"""Held out to say when training ends."""

_DAYS = 7  # days back whose value at the same time is a candidate
_PATCHES = 28  # inputs of the LSTM, at most: a week of hours, six at a time
_FINE = timedelta(hours=4)  # what the LSTM reads below an hour
_DRAWN_STEPS = 24  # steps of the horizon that a batch learns from, drawn for each
_NEWEST = 0.1  # share of the time that windows are drawn from which is held out
_PREDICTED = 512  # windows at a time: bounds memory
_LARGEST = 12.0  # on the log scale, 16,000 times last week's mean: where a prediction is cut off
_SERIES = 2_000  # series that windows are drawn from, at most
_WEEKS = 8  # weeks of them, the newest
_ORIGINS = 1_000_000  # windows to draw from, at most
_AT_SCALE = float(np.log1p(TENTH))


@dataclass(frozen=True)
class Lstm:
    """Pinball loss on log(1 + 10 load / last week's mean), direct for all steps of the horizon; gaps are masked.

    About half a minute of one core for 200 hourly series of four weeks, never much more: windows are drawn.
    """

    epochs: int = 12
    """At most; training ends when the newest windows are predicted no better."""
    windows: int = 10_000
    """Drawn afresh for each epoch, at most."""

    @property
    def name(self) -> str:
        """See ``Model.name``."""
        return "lstm"

    def fit(self, panel: Panel, horizon: int, seed: int) -> FittedLstm:
        """See ``Model.fit``. Refuses series without a value in the last week.

        Raises ``ConfigurationError`` without torch, and ``InvalidInput`` (field ``values``) when all series together
        do not hold a window: a day before it, the horizon and something known in both.
        """
        network = _network()
        rng = np.random.default_rng(seed)
        known = known_last_week(panel)
        refused = {key: NO_WEEK for key, there in zip(panel.keys, known, strict=True) if not there}
        panel = panel.rows(np.sort(rng.permutation(len(panel.keys))[:_SERIES])).last(_WEEKS * 7 * panel.day)
        windows = _Inputs(panel, horizon)
        first = min(windows.reads, max(panel.day, (panel.steps - horizon) // 2))
        rows, origins = windows.usable(first, panel.steps - horizon)
        if not len(rows):
            raise InvalidInput(
                "values",
                f"{panel.steps} steps of {len(panel.keys)} series hold no window of a day and {horizon} steps more",
            )
        newest = origins > first + (1 - _NEWEST) * (panel.steps - horizon - first)
        older = ~newest if (~newest).any() and newest.any() else np.ones(len(rows), bool)
        held_out = rng.permutation(np.flatnonzero(newest if newest.any() else older))[:NEWEST_WINDOWS]
        pool = np.flatnonzero(older)
        batches = -(-min(len(pool), self.windows) // network.BATCH)

        def draw(rng: np.random.Generator) -> lstm_network.Windows:
            drawn = pool[rng.integers(0, len(pool), min(len(pool), network.BATCH))]
            return windows.at(rows[drawn], origins[drawn], windows.some_steps(rng), truth=True)

        def of_newest() -> Iterator[lstm_network.Windows]:
            for start in range(0, len(held_out), network.BATCH):
                drawn = held_out[start : start + network.BATCH]
                yield windows.at(rows[drawn], origins[drawn], windows.some_steps(rng), truth=True)

        saved = network.train(windows.sizes, draw, of_newest(), self.epochs, batches, seed)
        return FittedLstm(saved, panel.step, horizon, refused)

    def restored(self, stored: bytes) -> FittedLstm:
        """What ``FittedLstm.to_bytes`` gave. Raises ``InvalidInput`` (field ``stored``) for anything else."""
        head, _, saved = stored.partition(b"\n")
        try:
            step, horizon = (int(part) for part in head.split())
        except ValueError:
            raise InvalidInput("stored", "is not an LSTM that was kept") from None
        return FittedLstm(saved, timedelta(seconds=step), horizon)


@dataclass(frozen=True)
class FittedLstm:
    """``saved``: the network, as torch saves tensors. Predicts any series that has the same ``step``."""

    saved: bytes
    step: timedelta
    horizon: int
    refused: Mapping[SeriesKey, str] = field(default_factory=dict)

    def predict(self, panel: Panel, horizon: int) -> Floats:
        """See ``Fitted.predict``. NaN for series without a value in the last week.

        Raises ``InvalidInput`` for another step (field ``panel``) or further than was learnt (``horizon``).
        """
        if panel.step != self.step:
            raise InvalidInput("panel", f"has a step of {panel.step}; the network has learnt {self.step}")
        if horizon > self.horizon:
            raise InvalidInput("horizon", f"{horizon} steps; the network has learnt {self.horizon}")
        network = _network()
        loaded = network.load(self.saved)
        panel = panel.last((_DAYS + 2 + horizon // panel.day) * panel.day)
        quantiles = np.full((len(panel.keys), horizon, len(QUANTILES)), np.nan)
        known = np.flatnonzero(known_last_week(panel))
        for start in range(0, len(known), _PREDICTED):
            rows = known[start : start + _PREDICTED]
            inputs = _Inputs(panel.rows(rows), horizon, learnt=self.horizon)
            every, origins = np.arange(len(rows)), np.full(len(rows), panel.steps, np.intp)
            log = network.predict(loaded, inputs.at(every, origins, np.arange(horizon))).astype(float)
            load = np.expm1(np.clip(log + _AT_SCALE, 0.0, _LARGEST))
            quantiles[rows] = load * inputs.scale(every, origins)[:, None, None] / TENTH
        return quantiles

    def to_bytes(self) -> bytes:
        """All but ``refused``, to be kept; no pickle in it."""
        head = f"{self.step // timedelta(seconds=1)} {self.horizon}\n"
        return head.encode() + self.saved


class _Inputs:
    """What the network sees of a panel at any origin: nothing of the origin's step or later."""

    def __init__(self, panel: Panel, horizon: int, learnt: int | None = None) -> None:
        network = _network()
        self._panel, self._horizon, self._day = panel, horizon, panel.day
        self._learnt = learnt or horizon
        week = _DAYS * panel.day
        reads = week if panel.step >= HOUR else _FINE // panel.step
        self._patch = -(-reads // _PATCHES)
        self.reads = self._patch * (reads // self._patch)
        # Gaps before the first step: every index into the past then exists.
        self._before = max(week + panel.day * (1 + horizon // panel.day), self.reads)
        self._values = np.pad(panel.values, ((0, 0), (self._before, 0)), constant_values=np.nan)
        self._values[~np.isfinite(self._values)] = np.nan
        known = np.isfinite(self._values)
        self._count = np.pad(np.cumsum(known, axis=1, dtype=np.int32), ((0, 0), (1, 0)))
        sums = np.cumsum(np.where(known, self._values, 0.0), axis=1, dtype=np.float64)
        self._sum = np.pad(sums, ((0, 0), (1, 0)))
        self._calendar = _calendar(panel, horizon)
        self.sizes = network.Sizes(
            patch=self._patch, candidates=_DAYS + 3, calendar=self._calendar.shape[1] + 2
        )

    def known_at(self, origins: Rows) -> npt.NDArray[np.bool_]:
        """Which series have a value in the week before each of ``origins``, shape (series, origins)."""
        at = self._before + origins
        known: npt.NDArray[np.bool_] = self._count[:, at] > self._count[:, at - _DAYS * self._day]
        return known

    def usable(self, first: int, last: int) -> tuple[Rows, Rows]:
        """Rows and origins, from ``first`` to ``last``, with something known before and of the horizon."""
        if last < first:
            return np.empty(0, np.intp), np.empty(0, np.intp)
        stride = -(-len(self._values) * (last - first + 1) // _ORIGINS)
        origins = np.arange(last, first - 1, -stride)[::-1]
        at = self._before + origins
        truth = self._count[:, at + self._horizon] > self._count[:, at]
        rows, where = np.nonzero(self.known_at(origins) & truth)
        return rows, origins[where]

    def some_steps(self, rng: np.random.Generator) -> Rows:
        """Steps of the horizon for a batch to learn from."""
        return np.sort(rng.permutation(self._horizon)[:_DRAWN_STEPS])

    def scale(self, rows: Rows, origins: Rows) -> Floats:
        """Mean of the week before each origin; 1 where that is 0."""
        mean = self._mean(rows, origins, _DAYS * self._day)
        return np.where(mean > 0, mean, 1.0)

    def at(self, rows: Rows, origins: Rows, steps: Rows, truth: bool = False) -> lstm_network.Windows:
        """The windows of ``rows`` at ``origins``, for ``steps`` of the horizon."""
        scale = self.scale(rows, origins)[:, None]
        past = self._log(rows, origins[:, None] - self.reads + np.arange(self.reads), scale)
        known = np.isfinite(past)
        patches = (len(rows), self.reads // self._patch, self._patch)
        read = np.concatenate(
            [np.where(known, past, 0.0).reshape(patches), known.reshape(patches)], axis=2, dtype=np.float32
        )
        # A day before, or as many days as lie wholly behind the origin.
        back = (1 + steps[:, None] // self._day + np.arange(_DAYS)) * self._day - steps[:, None]
        earlier = np.stack(
            [self._log(rows, origins[:, None] - back[:, day], scale) for day in range(_DAYS)], axis=2
        )
        newest = [self._mean(rows, origins, span)[:, None] for span in (1, self._recent, self._day)]
        recent = np.stack([_log(mean, scale).repeat(len(steps), axis=1) for mean in newest], axis=2)
        ahead = np.stack([(steps + 1) / self._learnt, np.log1p(steps) / np.log1p(self._learnt)], axis=1)
        calendar = np.concatenate(
            [
                self._calendar[origins[:, None] + steps],
                np.broadcast_to(ahead, (len(rows), len(steps), 2)),
            ],
            axis=2,
            dtype=np.float32,
        )
        windows: lstm_network.Windows = _network().Windows(
            past=read,
            candidates=np.concatenate([earlier, recent], axis=2, dtype=np.float32),
            calendar=calendar,
            truth=(
                self._log(rows, origins[:, None] + steps, scale).astype(np.float32)
                if truth
                else np.empty((len(rows), 0), np.float32)
            ),
        )
        return windows

    @property
    def _recent(self) -> int:
        return max(3, HOUR // self._panel.step)

    def _log(self, rows: Rows, steps: Rows, scale: Floats) -> Floats:
        return _log(self._values[rows[:, None], self._before + steps].astype(float), scale)

    def _mean(self, rows: Rows, origins: Rows, span: int) -> Floats:
        """Mean of what is known of the ``span`` steps before each origin; NaN of nothing."""
        at = self._before + origins
        count = self._count[rows, at] - self._count[rows, at - span]
        total = self._sum[rows, at] - self._sum[rows, at - span]
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _log(load: Floats, scale: Floats) -> Floats:
    """Zero at the scale itself, so that a gap's zero is the mean."""
    log: Floats = np.log1p(TENTH * np.maximum(load, 0.0) / scale) - _AT_SCALE
    return log


def _calendar(panel: Panel, horizon: int) -> Floats:
    """Sine and cosine of the time of day and of the week, two turns each, of the panel's steps and the horizon's."""
    wall = panel.wall_clock(0, panel.steps + horizon)
    day = (wall.hour.to_numpy() + wall.minute.to_numpy() / 60) / 24
    week = (wall.dayofweek.to_numpy() + day) / 7
    turns = 2 * np.pi * np.stack([day, 2 * day, week, 2 * week], axis=1)
    return np.concatenate([np.sin(turns), np.cos(turns)], axis=1)


def _network() -> ModuleType:
    """The module that needs torch. Raises ``ConfigurationError`` without it."""
    try:
        from foreshard.forecast.models import lstm_network
    except ModuleNotFoundError as missing:
        if missing.name != "torch":
            raise
        raise ConfigurationError(
            "models", "lstm needs PyTorch, which is not installed.", remedy="pip install 'foreshard[lstm]'"
        ) from None
    return lstm_network
