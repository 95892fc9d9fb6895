"""What a forecast is asked for, and what the run before said."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from foreshard.errors import InvalidInput
from foreshard.forecast.backtest import ORIGINS
from foreshard.forecast.models.candidates import DEFAULT, GLOBAL, LOCAL, NAIVE

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
