"""Forecast many series: models compete at past origins, the best or their combination is calibrated and issued."""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from foreshard.errors import InvalidInput
from foreshard.forecast.backtest import ORIGINS, by_local_fits, by_one_fit, past_origins
from foreshard.forecast.band import QUANTILES, Band, Floats
from foreshard.forecast.conformal import calibrate
from foreshard.forecast.exceedance import PastWindows, peaks
from foreshard.forecast.history import History
from foreshard.forecast.models.candidates import DEFAULT, GLOBAL, LOCAL, NAIVE, KeptFit
from foreshard.forecast.models.model import Fitted
from foreshard.forecast.models.seasonal_naive import SeasonalNaive
from foreshard.forecast.panel import Panel, Rows
from foreshard.forecast.peak import PEAK_LEVELS, Peak
from foreshard.forecast.prepared import Prepared, prepared
from foreshard.forecast.result import ForecastResult
from foreshard.forecast.selection import COMBINATION, TOLERANCE, Selection, combined, select
from foreshard.forecast.series import SeriesKey

SERIES_A_TURN = 200
"""Of more series, each run tries the local challengers on a part."""
MOST_TURNS = 24
MANY = 1_000
"""Of more series, models are judged by fewer past origins: an hour's work must be done within the hour."""
FEWER_ORIGINS = 10


@dataclass(frozen=True)
class ForecastOptions:
    """``horizon``: steps ahead. ``models``: names of the candidates; the seasonal naive is always among them.

    ``turns``: runs until every series' challengers have been tried again. ``origins``: past forecasts that all are
    judged by.

    Raises ``InvalidInput``: ``horizon``, ``turns`` or ``origins`` below 1, ``models`` that names another model.
    """

    horizon: int
    models: tuple[str, ...] = DEFAULT
    seed: int = 1
    turns: int = 1
    origins: int = ORIGINS

    def __post_init__(self) -> None:
        for name, value in (("horizon", self.horizon), ("turns", self.turns), ("origins", self.origins)):
            if value < 1:
                raise InvalidInput(name, f"{value} is not at least 1")
        for model in self.models:
            if model != NAIVE and model not in GLOBAL and model not in LOCAL:
                known = ", ".join([NAIVE, *LOCAL, *GLOBAL])
                raise InvalidInput("models", f"there is no model {model!r}.", remedy=f"Choose among {known}.")


def turns_for(series: int) -> int:
    """In how many runs the challengers of so many series are tried: in one, if they are few."""
    return min(MOST_TURNS, math.ceil(series / SERIES_A_TURN)) or 1


def origins_for(series: int) -> int:
    """By how many past forecasts so many series are judged."""
    return ORIGINS if series <= MANY else FEWER_ORIGINS


@dataclass(frozen=True)
class Before:
    """What the last run said of a series: its champion, and each candidate's score."""

    model: str
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Trained:
    """What was learnt from all series together.

    ``present``: by model, fitted to everything; ``past``: fitted to what was known at the first of the past origins,
    by which the model is judged. ``notes`` say what went wrong.
    """

    present: Mapping[str, KeptFit] = field(default_factory=dict)
    past: Mapping[str, KeptFit] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    fresh: frozenset[str] = frozenset()

    def kept(self) -> dict[str, bytes]:
        """What was fitted anew, for the day when a fit fails: ``train`` takes it back."""
        return {
            f"{name}{part}": fits[name].to_bytes()
            for part, fits in (("", self.present), (_PAST, self.past))
            for name in sorted(self.fresh & fits.keys())
        }


_PAST = "/past"

THREADS = 2
"""Fits at the same time, of one thread each."""


def train(panel: Panel, options: ForecastOptions, kept: Mapping[str, bytes] | None = None) -> Trained:
    """Fit the global models among the candidates.

    Where a fit fails, its last known good one (``kept``) takes its place; without one the model does not compete.
    """
    kept = kept or {}
    names = [name for name in options.models if name in GLOBAL]
    if not names:
        return Trained()
    history = History(prepared(panel, options.horizon).panel)
    ends = [panel.steps, *past_origins(panel, options.horizon, options.origins)[:1]]
    present: dict[str, KeptFit] = {}
    past: dict[str, KeptFit] = {}
    notes: list[str] = []
    fresh = set()
    with ThreadPoolExecutor(THREADS, thread_name_prefix="fit") as pool:
        fits = {
            name: [
                pool.submit(GLOBAL[name]().fit, history.seen(end), options.horizon, options.seed)
                for end in ends
            ]
            for name in names
        }
    for name in names:
        now: KeptFit | None
        then: KeptFit | None
        try:
            now, then = [*(fit.result() for fit in fits[name]), None][:2]
            fresh.add(name)
        except Exception as failure:  # of any library: the other models go on
            now, then, note = _last_known_good(name, kept, failure)
            notes.append(note)
        if now is not None:
            present[name] = now
        if then is not None:
            past[name] = then
    return Trained(present, past, tuple(notes), frozenset(fresh))


def restored(kept: Mapping[str, bytes], models: Collection[str] = tuple(GLOBAL)) -> Trained:
    """The global ``models`` as ``Trained.kept`` wrote them, to forecast other series of the same fleet without a fit.

    What was never kept is not there; what cannot be read is in the notes.
    """
    present: dict[str, KeptFit] = {}
    past: dict[str, KeptFit] = {}
    notes = []
    for name in models:
        if name in kept and f"{name}{_PAST}" in kept:
            try:
                model = GLOBAL[name]()
                present[name], past[name] = model.restored(kept[name]), model.restored(kept[f"{name}{_PAST}"])
            except Exception as broken:  # what was kept by another version of its library
                present.pop(name, None)
                notes.append(f"the last fit of {name} cannot be read ({broken})")
    return Trained(present, past, tuple(notes))


def _last_known_good(
    name: str, kept: Mapping[str, bytes], failure: Exception
) -> tuple[KeptFit | None, KeptFit | None, str]:
    why = f"{name} could not be fitted ({type(failure).__name__}: {failure})"
    earlier = restored(kept, [name])
    if name in earlier.present:
        return earlier.present[name], earlier.past[name], f"{why}: the last known good fit stands in"
    return (
        None,
        None,
        "; ".join([f"{why} and does not compete", *(earlier.notes or ["no earlier fit was kept"])]),
    )


def forecast(
    trained: Trained,
    panel: Panel,
    options: ForecastOptions,
    before: Mapping[SeriesKey, Before] | None = None,
    turn: int = 0,
) -> list[ForecastResult]:
    """Every series' quantiles from the panel's end, in the order of ``panel.keys``.

    ``panel`` may hold a part of the series that ``trained`` has learnt from, or others, such as shards under a
    placement that is only thought of. ``before``: what the last run said; champions change only for a clear gain, and
    the local challengers of series that are known there are tried when it is their ``turn`` (any growing number).

    A bad series never raises and never touches the others: with too little, constant or broken history the seasonal
    naive answers, without any a band of zeros, and its ``note`` says so.
    """
    if not panel.keys:
        return []
    before = before or {}
    ready = prepared(panel, options.horizon)
    competition = _Competition(ready, trained, options, before, turn)
    chosen = competition.selection()
    quantiles = competition.issued(chosen)
    past = competition.past_issued(chosen)
    calibrated = calibrate(past, competition.truth, competition.origins, quantiles, ready.panel)
    highest = _peaks(ready, competition, calibrated.quantiles, calibrated.past)
    factors = ready.ahead.astype(float)[:, :, None]
    bands = np.maximum.accumulate(np.maximum(calibrated.quantiles * factors, 0.0), axis=-1)
    return [
        _result(row, ready, competition, chosen, bands[row], highest[row], float(calibrated.coverage[row]))
        for row in range(len(panel.keys))
    ]


class _Competition:
    """The candidates' predictions, at past origins and now, of the series of one panel."""

    def __init__(
        self,
        ready: Prepared,
        trained: Trained,
        options: ForecastOptions,
        before: Mapping[SeriesKey, Before],
        turn: int,
    ) -> None:
        self.panel, self.before, self._options = ready.panel, before, options
        self._history = History(ready.panel)
        self.origins = past_origins(ready.panel, options.horizon, options.origins)
        self.truth = (
            self._history.truths(self.origins, options.horizon)
            if self.origins
            else np.full((0, len(self.panel.keys), options.horizon), np.nan)
        )
        self.refused: dict[SeriesKey, dict[str, str]] = {}
        naive = SeasonalNaive().fit(self.panel, options.horizon, options.seed)
        self.past = {NAIVE: self._at_origins(naive)}
        self.now = {NAIVE: naive.predict(self.panel, options.horizon)}
        for name, fitted in trained.present.items():
            if name in trained.past or not self.origins:
                self.now[name] = fitted.predict(self.panel, options.horizon)
                self.past[name] = self._at_origins(trained.past.get(name, fitted))
        for name in options.models:
            if name in LOCAL:
                self._let_compete(name, self._tried(name, turn))

    def _at_origins(self, fitted: Fitted) -> Floats:
        if not self.origins:
            return np.full((*self.truth.shape, len(QUANTILES)), np.nan)
        return by_one_fit(fitted, self._history, self.origins, self._options.horizon)

    def _tried(self, name: str, turn: int) -> Rows:
        """Series whose local model is fitted in this run: it is new, was near the best, or it is their turn."""
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


def _peaks(ready: Prepared, competition: _Competition, quantiles: Floats, past: Floats) -> list[Peak]:
    known = PastWindows(competition.origins, past, competition.truth) if competition.origins else None
    return peaks(ready.panel, quantiles, known, ready.ahead)


def _result(
    row: int,
    ready: Prepared,
    competition: _Competition,
    chosen: Selection,
    band: Floats,
    peak: Peak,
    coverage: float,
) -> ForecastResult:
    panel = ready.measured
    key = panel.keys[row]
    known = np.flatnonzero(np.isfinite(panel.values[row]))
    first, last = (panel.times(known[end], known[end] + 1)[0] if len(known) else None for end in (0, -1))
    notes = list(ready.notes.get(key, ()))
    scores = {name: float(of[row]) for name, of in chosen.scores.items() if np.isfinite(of[row])}
    if (said := competition.before.get(key)) is not None:
        scores = {**said.scores, **scores}
        if (why := competition.refused.get(key, {}).get(said.model)) is not None:
            notes.append(f"{said.model} gave up: {why}")
    if not len(known):
        notes.append("the forecast is zero")
        peak = Peak(np.zeros(len(PEAK_LEVELS)))
    elif not scores:
        notes.append("seasonal naive: too little history to compare models")
    return ForecastResult(
        key=key,
        band=Band(panel.times(panel.steps, panel.steps + len(band)), band),
        peak=peak,
        model=chosen.champions[row],
        weights={
            name: float(weight)
            for name, weight in zip(chosen.names, chosen.weights[:, row], strict=True)
            if weight > 0
        },
        scores=scores,
        coverage=coverage if np.isfinite(coverage) else None,
        trained_from=None if first is None else first.to_pydatetime(),
        trained_to=None if last is None else last.to_pydatetime(),
        points=len(known),
        note="; ".join(notes),
    )
