"""The candidates of some series: what each would have said at past origins and says now, and who is chosen."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

import numpy as np

from foreshard.forecast.backtest import by_local_fits, by_one_fit, past_origins
from foreshard.forecast.band import QUANTILES, Floats
from foreshard.forecast.forecast_options import Before, ForecastOptions
from foreshard.forecast.history import History
from foreshard.forecast.models.candidates import LOCAL, NAIVE
from foreshard.forecast.models.model import Fitted
from foreshard.forecast.models.seasonal_naive import SeasonalNaive
from foreshard.forecast.panel import Panel, Rows
from foreshard.forecast.selection import COMBINATION, TOLERANCE, Selection, combined, select
from foreshard.forecast.series import SeriesKey
from foreshard.forecast.training import Trained


class Competition:
    """The candidates' predictions, at past origins and now, of the series of one panel."""

    def __init__(
        self,
        panel: Panel,
        trained: Trained,
        options: ForecastOptions,
        before: Mapping[SeriesKey, Before],
        turn: int,
    ) -> None:
        self.panel, self.before, self._options = panel, before, options
        self._history = History(panel)
        self.origins = past_origins(panel, options.horizon, options.origins)
        self.truth = (
            self._history.truths(self.origins, options.horizon)
            if self.origins
            else np.full((0, len(self.panel.keys), options.horizon), np.nan)
        )
        self.refused: dict[SeriesKey, dict[str, str]] = {}
        naive = SeasonalNaive().fit(self.panel, options.horizon, options.seed)
        self.past = {NAIVE: self._at_origins(naive)}
        self.now = {NAIVE: naive.predict(self.panel, options.horizon)}
        self.failed: list[str] = []
        for name, fitted in trained.present.items():
            if name in trained.past or not self.origins:
                self._or_without(name, self._ask, name, fitted, trained.past.get(name, fitted))
        for name in options.models:
            if name in LOCAL:
                self._or_without(name, self._let_compete, name, self._tried(name, turn))

    def _or_without(self, name: str, let_compete: Callable[..., None], *arguments: object) -> None:
        """What a library raises costs its model the competition, not the others the forecast."""
        try:
            let_compete(*arguments)
        except Exception as failure:
            self.now.pop(name, None)
            self.past.pop(name, None)
            self.failed.append(f"{name} does not compete ({type(failure).__name__}: {failure})")

    def _ask(self, name: str, present: Fitted, past: Fitted) -> None:
        self.now[name] = present.predict(self.panel, self._options.horizon)
        self.past[name] = self._at_origins(past)

    def _at_origins(self, fitted: Fitted) -> Floats:
        if not self.origins:
            return np.full((*self.truth.shape, len(QUANTILES)), np.nan)
        return by_one_fit(fitted, self._history, self.origins, self._options.horizon)

    def _tried(self, name: str, turn: int) -> Rows:
        """Series whose local model is fitted in this run: it was near the best, or it is their turn."""
        rows = []
        turns = self._options.turns
        for row, key in enumerate(self.panel.keys):
            said = self.before.get(key)
            in_turn = zlib.crc32(str(key).encode()) % turns == turn % turns
            if in_turn or (said is not None and _near_the_best(name, said)):
                rows.append(row)
        return np.asarray(rows, np.intp)

    def _let_compete(self, name: str, rows: Rows) -> None:
        if not len(rows) or not self.origins:
            return
        candidate = LOCAL[name]
        seed, horizon = self._options.seed, self._options.horizon
        fitted = candidate.make().fit(self.panel.rows(rows), horizon, seed)
        for key, why in fitted.refused.items():
            self.refused.setdefault(key, {})[name] = why
        self.now[name] = np.full_like(self.now[NAIVE], np.nan)
        self.now[name][rows] = fitted.predict(self.panel.rows(rows), horizon)
        self.past[name] = by_local_fits(
            candidate.make(), self._history, self.origins, horizon, rows, candidate.fits, seed
        )

    def selection(self) -> Selection:
        """Who forecasts each series."""
        age = (self.panel.steps - np.asarray(self.origins, float)) / self.panel.day
        champions = [
            None if (said := self.before.get(key)) is None else said.model for key in self.panel.keys
        ]
        able = {name: np.asarray(np.isfinite(now).all(axis=(1, 2))) for name, now in self.now.items()}
        return select(self.past, self.truth, age, self.panel.day, NAIVE, champions, able)

    def issued(self, chosen: Selection) -> Floats:
        """Quantiles of the present, shape (series, horizon, 7); 0 where nothing is known of a series."""
        said = combined([self.now[name] for name in chosen.names], chosen.weights)
        return np.nan_to_num(said, nan=0.0)

    def past_issued(self, chosen: Selection) -> Floats:
        """What the same would have said at past origins, shape (origins, series, horizon, 7)."""
        return combined([self.past[name] for name in chosen.names], chosen.weights)


def _near_the_best(name: str, said: Before) -> bool:
    """Whether it may have a part in the band. Scores of other runs are good enough to say who must be asked."""
    score = said.scores.get(name)
    if score is None:
        return False
    others = [other for known, other in said.scores.items() if known != COMBINATION]
    return said.model == name or score <= TOLERANCE * min([1.0, *others])
