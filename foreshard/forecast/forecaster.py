"""Forecast many series: models compete at past origins, the best or their combination is calibrated and issued."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from foreshard.forecast.band import Band, Floats
from foreshard.forecast.competition import Competition
from foreshard.forecast.conformal import calibrate
from foreshard.forecast.exceedance import PastWindows, peaks
from foreshard.forecast.forecast_options import Before, ForecastOptions
from foreshard.forecast.panel import Panel
from foreshard.forecast.peak import PEAK_LEVELS, Peak
from foreshard.forecast.prepared import Prepared, prepared
from foreshard.forecast.result import ForecastResult
from foreshard.forecast.selection import Selection
from foreshard.forecast.series import SeriesKey
from foreshard.forecast.training import Trained


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
    competition = Competition(ready.panel, trained, options, before, turn)
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


def _peaks(ready: Prepared, competition: Competition, quantiles: Floats, past: Floats) -> list[Peak]:
    known = PastWindows(competition.origins, past, competition.truth) if competition.origins else None
    return peaks(ready.panel, quantiles, known, ready.ahead)


def _result(
    row: int,
    ready: Prepared,
    competition: Competition,
    chosen: Selection,
    band: Floats,
    peak: Peak,
    coverage: float,
) -> ForecastResult:
    panel = ready.measured
    key = panel.keys[row]
    known = np.flatnonzero(np.isfinite(panel.values[row]))
    first, last = (panel.times(known[end], known[end] + 1)[0] if len(known) else None for end in (0, -1))
    notes = [*ready.notes.get(key, ()), *competition.failed]
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
