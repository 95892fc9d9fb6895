"""Forecasts at moments of the past, by the forecaster's own code, from what was known then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np

from foreshard.errors import InvalidInput
from foreshard.forecast.backtest import ORIGINS
from foreshard.forecast.forecast_options import Before, ForecastOptions, turns_for
from foreshard.forecast.forecaster import forecast
from foreshard.forecast.models.candidates import DEFAULT
from foreshard.forecast.panel import DAY, HOUR, Panel, Values
from foreshard.forecast.peak import HALF, HIGH, spread
from foreshard.forecast.result import ForecastResult
from foreshard.forecast.series import SeriesKey
from foreshard.forecast.training import Trained, train
from foreshard.planning.view import Floats, Indexes
from foreshard.simulate.fleet import Fleet
from foreshard.simulate.outlook import Outlook, highest, yesterday
from foreshard.simulate.trace import Trace

ORIGINS_OF_BUCKETS = 6


@dataclass(frozen=True)
class Pace:
    """How far, how often and by what one forecasts.

    ``ahead``: steps of length ``step``. Forecasts are made ``every`` so often, global models fitted anew ``refit`` so
    often, from at most ``history``. ``of_highest``: what is forecast of a step is its highest load, which is what
    saturates a shard, and not its mean; of steps that are the trace's own they are one.

    Raises ``InvalidInput`` (field ``step``, ``every``) for what does not go up in the other.
    """

    step: timedelta = HOUR
    ahead: int = 24
    every: timedelta = HOUR
    refit: timedelta = DAY
    history: timedelta = 42 * DAY
    models: tuple[str, ...] = DEFAULT
    origins: int = ORIGINS
    of_highest: bool = True
    seed: int = 1

    def __post_init__(self) -> None:
        if self.every % self.step:
            raise InvalidInput("every", f"{self.every} is not a multiple of the forecast's step {self.step}")

    def check(self, trace: Trace) -> None:
        """Raises ``InvalidInput`` (field ``step``) if the trace's steps do not fit into the forecasts'."""
        if self.step % trace.step:
            raise InvalidInput("step", f"{self.step} is not a multiple of the trace's step {trace.step}")


class Foresight:
    """Forecasts of several fleets with the same buckets, in one call of the forecaster for all of them."""

    def __init__(self, trace: Trace, pace: Pace) -> None:
        pace.check(trace)
        self._trace, self._pace = trace, pace
        self._trained: Trained | None = None
        self._fitted_at = -1
        self._turn = 0
        self._before: dict[SeriesKey, Before] = {}

    def outlooks(self, now: int, fleets: Sequence[Fleet], placements: Sequence[Indexes]) -> list[Outlook]:
        """Of each fleet under its placement, from the steps before ``now`` alone."""
        panel = self._panel(now, fleets, placements)
        options = ForecastOptions(
            self._pace.ahead,
            self._pace.models,
            self._pace.seed,
            turns_for(len(panel.keys)),
            self._pace.origins,
        )
        if self._trained is None or (now - self._fitted_at) * self._trace.step >= self._pace.refit:
            kept = None if self._trained is None else self._trained.kept()
            self._trained, self._fitted_at = train(panel, options, kept), now
        # Shards by themselves: how far off the maxima of single buckets were says little of sums of many. Of buckets
        # only the median counts, which few past origins are enough to choose a model for.
        buckets = len(self._trace.names) * len(self._trace.metrics)
        results = []
        for rows, origins in (
            (np.arange(buckets), min(options.origins, ORIGINS_OF_BUCKETS)),
            (np.arange(buckets, len(panel.keys)), options.origins),
        ):
            asked = replace(options, origins=origins)
            results += forecast(self._trained, panel.rows(rows), asked, self._before, self._turn)
        self._turn += 1
        self._before = {one.key: Before(one.model, one.scores) for one in results}
        return self._split(now, fleets, placements, results)

    def _panel(self, now: int, fleets: Sequence[Fleet], placements: Sequence[Indexes]) -> Panel:
        trace, pace = self._trace, self._pace
        each = pace.step // trace.step
        first = now - min(now, pace.history // trace.step) // each * each
        keys = [SeriesKey(None, name, metric) for name in trace.names for metric in trace.metrics]
        loads = [trace.load[:, :, first:now]]
        for number, (fleet, placement) in enumerate(zip(fleets, placements, strict=True)):
            keys += [
                SeriesKey(f"{number}/{shard}", None, metric)
                for shard in fleet.shards
                for metric in trace.metrics
            ]
            loads.append(fleet.load(trace, placement, first, now))
        flat = np.concatenate([one.reshape(-1, now - first) for one in loads])
        return Panel(
            tuple(keys), self._steps_of(flat, each), trace.at(first), pace.step, trace.timezone, trace.events
        )

    def _steps_of(self, values: Floats, each: int) -> Values:
        if self._pace.of_highest:
            return np.asarray(highest(values, each), np.float32)
        return np.asarray(values.reshape(len(values), -1, each).mean(axis=2), np.float32)

    def _split(
        self,
        now: int,
        fleets: Sequence[Fleet],
        placements: Sequence[Indexes],
        results: Sequence[ForecastResult],
    ) -> list[Outlook]:
        resources, ahead = len(self._trace.metrics), self._pace.ahead
        bands = np.stack([one.band.quantiles for one in results]).reshape(-1, resources, ahead, 7)
        peaks = np.stack([one.peak.values for one in results]).reshape(-1, resources, 17)
        buckets = len(self._trace.names)
        load = bands[:buckets, :, :, 3]
        uncertain = spread(peaks[:buckets, :, HALF], peaks[:buckets, :, HIGH]).mean(axis=1)
        queries = yesterday(self._trace, now, self._pace.step, ahead)
        found = []
        first = buckets
        for fleet, placement in zip(fleets, placements, strict=True):
            until = first + len(fleet.shards)
            found.append(
                Outlook(
                    now,
                    self._pace.step,
                    placement.copy(),
                    bands[first:until],
                    peaks[first:until],
                    load,
                    queries,
                    uncertain,
                )
            )
            first = until
        return found
