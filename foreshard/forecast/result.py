"""What a forecast of one series is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from foreshard.forecast.band import Band
from foreshard.forecast.peak import Peak
from foreshard.forecast.series import SeriesKey


@dataclass(frozen=True, eq=False)
class ForecastResult:
    """One series' forecast.

    ``model``: the champion, or ``combination``. ``trained_from`` and ``trained_to`` are the beginnings of the first
    and last known step, None without any; ``points`` counts the known steps. ``scores``: each candidate's weighted
    pinball loss at past origins relative to the seasonal naive's (below 1 is better; 1 is the naive itself); empty if
    there was too little history. ``weights``: each model's part in the band. ``coverage``: share of actual values
    within the 90 % band at past origins, as it would have been issued, or None. ``peak``: of the whole window's
    largest load. ``note`` says what a reader must know to trust the band, empty if nothing.
    """

    key: SeriesKey
    band: Band
    peak: Peak
    model: str
    weights: Mapping[str, float]
    scores: Mapping[str, float]
    coverage: float | None
    trained_from: datetime | None
    trained_to: datetime | None
    points: int
    note: str

    @property
    def score(self) -> float | None:
        """The champion's own of ``scores``."""
        return self.scores.get(self.model)
