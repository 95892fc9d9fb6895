"""What a forecast of one series is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from foreshard.forecast.band import Band
from foreshard.forecast.series import SeriesKey


@dataclass(frozen=True, eq=False)
class ForecastResult:
    """One series' forecast.

    ``trained_from`` and ``trained_to`` are the first and last known hour, None without any; ``points`` counts
    the known hours. ``score`` is the chosen model's pinball loss in the backtest relative to the seasonal
    naive's (below 1 is better; 1 is the naive itself), None if there was too little history for a backtest.
    ``note`` says what a reader must know to trust the band, empty if nothing.
    """

    key: SeriesKey
    band: Band
    model: str
    trained_from: datetime | None
    trained_to: datetime | None
    points: int
    score: float | None
    note: str
