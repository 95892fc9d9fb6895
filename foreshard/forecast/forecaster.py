"""Forecast series: choose the model that did better two days ago, correct its band, apply the calendar."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from foreshard.errors import InvalidInput
from foreshard.forecast.backtest import Backtest, backtest
from foreshard.forecast.band import QUANTILES, Band, Floats
from foreshard.forecast.calendar import Event, effect
from foreshard.forecast.models.model import Model
from foreshard.forecast.models.prophet import ProphetModel
from foreshard.forecast.models.seasonal_naive import SeasonalNaive
from foreshard.forecast.result import ForecastResult
from foreshard.forecast.series import STEP, Series

PROPHET_NEEDS = timedelta(days=14)
"""Known hours below which daily and weekly curves cannot be told from noise."""

STALE_AFTER = timedelta(hours=3)

Progress = Callable[[int, int], None]
"""Called with (series done, series in all)."""


def forecast_one(
    series: Series,
    starts_at: datetime,
    horizon_steps: int,
    events: Sequence[Event],
    timezone: ZoneInfo,
    seed: int,
) -> ForecastResult:
    """Quantiles of ``horizon_steps`` hours from the hour of ``starts_at``, learned from the hours before it.

    A bad series never raises: with too little, constant or broken history the seasonal naive answers, without
    any history a band of zeros, and ``note`` says so.

    Events: history is divided and the forecast multiplied by the declared effect, so an event ahead raises
    the forecast and one under way is not counted twice. Whether the declared effect was true is not learned.

    Raises ``InvalidInput`` for a horizon below one step or a ``starts_at`` without time zone.
    """
    steps = _steps(starts_at, horizon_steps)
    hourly = series.hourly()
    hourly = hourly[hourly.index < steps[0]]
    notes: list[str] = []
    if (hourly < 0).any():
        notes.append(f"{int((hourly < 0).sum())} negative values were left out")
        hourly = hourly.where(~(hourly < 0))
    known = hourly.dropna()
    if known.empty:
        notes.append("no history: the forecast is zero")
        band = Band(steps, np.zeros((len(steps), len(QUANTILES))))
        return ForecastResult(series.key, band, SeasonalNaive.name, None, None, 0, None, _note(notes))
    first, last = known.index[0], known.index[-1]
    if steps[0] - last > STALE_AFTER:
        notes.append(f"the last value is {(steps[0] - last) / STEP:.0f} h older than the forecast's start")
    ordinary = hourly[first:last] / effect(events, series.key, pd.DatetimeIndex(hourly[first:last].index))
    own_seed = zlib.crc32(f"{seed}/{series.key}".encode())
    chosen = _choose(ordinary, steps, timezone, own_seed, notes)
    quantiles = chosen.quantiles * effect(events, series.key, steps)[:, None]
    return ForecastResult(
        series.key,
        Band(steps, quantiles),
        chosen.model,
        first.to_pydatetime(),
        last.to_pydatetime(),
        len(known),
        chosen.score,
        _note(notes),
    )


def forecast_many(
    series: Sequence[Series],
    starts_at: datetime,
    horizon_steps: int,
    events: Sequence[Event],
    timezone: ZoneInfo,
    seed: int,
    *,
    workers: int = 2,
    progress: Progress | None = None,
) -> list[ForecastResult]:
    """``forecast_one`` for each series, in their order. ``progress`` is called from the calling thread.

    Threads, not processes: most of a fit is cmdstan's own process, and threads leave no scratch files behind.
    """
    if workers < 1:
        raise InvalidInput("workers", f"{workers} is not at least 1")
    _steps(starts_at, horizon_steps)
    with ThreadPoolExecutor(workers, thread_name_prefix="forecast") as pool:
        futures = [
            pool.submit(forecast_one, one, starts_at, horizon_steps, events, timezone, seed) for one in series
        ]
        for done, _ in enumerate(as_completed(futures), start=1):
            if progress is not None:
                progress(done, len(futures))
    return [future.result() for future in futures]


@dataclass(frozen=True, eq=False)
class _Chosen:
    quantiles: Floats
    model: str
    score: float | None


def _choose(
    history: pd.Series[float], steps: pd.DatetimeIndex, timezone: ZoneInfo, seed: int, notes: list[str]
) -> _Chosen:
    """Prophet if it beats the naive in the backtest, else the naive; why, in ``notes``.

    Prophet is judged 48 hours out at once, the naive likewise, so neither saw what the other did not.
    """
    naive, prophet = SeasonalNaive(), ProphetModel()
    naive_test = backtest(naive, history, timezone, seed)

    def answer(model: Model, test: Backtest | None, score: float | None) -> _Chosen:
        quantiles = model.fit_predict(history, steps, timezone, seed)
        return _Chosen(test.corrected(quantiles) if test else quantiles, model.name, score)

    if naive_test is None or history.count() < PROPHET_NEEDS / STEP:
        notes.append(f"seasonal naive: only {history.count()} known hours")
        return answer(naive, naive_test, 1.0 if naive_test else None)
    if history.max() == history.min():
        notes.append("seasonal naive: the series is constant")
        return answer(naive, naive_test, 1.0)
    try:
        prophet_test = backtest(prophet, history, timezone, seed)
        if prophet_test is not None and prophet_test.pinball < naive_test.pinball:
            return answer(prophet, prophet_test, prophet_test.pinball / naive_test.pinball)
        notes.append("seasonal naive: it beat prophet in the backtest")
    except Exception as failure:  # cmdstan and Prophet have no common error; a forecast must come out anyway
        notes.append(f"seasonal naive: prophet failed ({type(failure).__name__}: {failure})")
    return answer(naive, naive_test, 1.0)


def _steps(starts_at: datetime, horizon_steps: int) -> pd.DatetimeIndex:
    if starts_at.tzinfo is None:
        raise InvalidInput("starts_at", f"{starts_at} has no time zone")
    if horizon_steps < 1:
        raise InvalidInput("horizon_steps", f"{horizon_steps} is not at least 1")
    return pd.date_range(
        pd.Timestamp(starts_at).tz_convert("UTC").floor("h"), periods=horizon_steps, freq="h"
    )


def _note(notes: list[str]) -> str:
    return "; ".join(notes)
