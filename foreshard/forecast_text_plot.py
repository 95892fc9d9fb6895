"""A forecast drawn with characters, for terminals."""

from __future__ import annotations

import math
from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
from rich.text import Text

from foreshard.forecast.band import Floats
from foreshard.forecast_plot import ForecastPicture
from foreshard.load.shown_series import with_unit

WIDTH = 72
ROWS = 12
CELLS = "▁▂▃▄▅▆▇█"
NOTHING, OUTER, INNER, MEDIAN, CAPACITY = "·", "░", "▒", "━", "─"


def text_plot(picture: ForecastPicture, width: int = WIDTH, rows: int = ROWS) -> list[Text]:
    """History as columns, a dot where there is a gap; then the band: 5 to 95 %, 25 to 75 %, the median.

    The last line is the time axis, in the picture's time zone.
    """
    past, ahead = _columns(picture, width)
    top = _top(picture)
    limit = -1 if picture.capacity is None else min(rows - 1, int(picture.capacity / top * rows))
    lines = []
    for row in reversed(range(rows)):
        line = Text(no_wrap=True)
        for value in past:
            line.append(*_of_history(value / top * rows - row, row, limit))
        for band in ahead:
            line.append(*_of_band(band / top * rows - row, row == limit))
        if row == limit:
            assert picture.capacity is not None
            line.append(f" capacity {with_unit(picture.capacity, picture.result.key.metric)}", "red")
        elif row == rows - 1:
            line.append(f" {with_unit(top, picture.result.key.metric)}", "dim")
        lines.append(line)
    return [*lines, _axis(picture, len(past), width)]


def _columns(picture: ForecastPicture, width: int) -> tuple[list[float], list[Floats]]:
    """History's largest value in each column, NaN for a gap; of the forecast the seven quantiles at each column."""
    begin = _begin(picture)
    span = picture.ends_at - begin
    border = round((picture.starts_at - begin) / span * width)
    edges = [begin + span * (at / width) for at in range(width + 1)]
    values, quantiles = picture.history.to_numpy(float), picture.result.band.quantiles
    past = []
    for early, late in pairwise(edges[: border + 1]):
        first = int((early - begin) / picture.step)
        part = values[first : max(math.ceil((late - begin) / picture.step), first + 1)]
        past.append(float(np.nanmax(part)) if np.isfinite(part).any() else np.nan)
    middles = (early + (late - early) / 2 for early, late in pairwise(edges[border:]))
    steps = (int((one - picture.starts_at) / picture.step) for one in middles)
    return past, [quantiles[min(max(step, 0), len(quantiles) - 1)] for step in steps]


def _begin(picture: ForecastPicture) -> datetime:
    return picture.history.index[0].to_pydatetime() if len(picture.history) else picture.starts_at


def _top(picture: ForecastPicture) -> float:
    known = picture.history.dropna()
    highest = float(known.max()) if len(known) else 0.0
    return 1.05 * max(picture.capacity or 0.0, float(picture.result.band.quantiles.max()), highest) or 1.0


def _of_history(filled: float, row: int, limit: int) -> tuple[str, str]:
    if np.isnan(filled) and row == 0:
        return NOTHING, "dim"
    if filled > 0:
        return CELLS[min(int(filled * len(CELLS)), len(CELLS) - 1)], ""
    return (CAPACITY, "red") if row == limit else (" ", "")


def _of_band(band: Floats, limit: bool) -> tuple[str, str]:
    """``band``: the quantiles in rows above the foot of this one."""
    if 0 <= band[3] < 1:
        return MEDIAN, "bold blue"
    for low, high, mark in ((2, 4, INNER), (0, 6, OUTER)):
        if band[low] < 1 and band[high] >= 0:
            return mark, "blue"
    return (CAPACITY, "red") if limit else (" ", "")


def _axis(picture: ForecastPicture, border: int, width: int) -> Text:
    zone = ZoneInfo(picture.timezone)
    moments = _begin(picture), picture.starts_at, picture.ends_at
    first, now, last = (f"{moment.astimezone(zone):%a %H:%M}" for moment in moments)
    line = list(" " * width)
    line[: len(first)] = first
    mark = f"{now} │"
    if border > len(first) + len(mark):
        line[border - len(mark) + 1 : border + 1] = mark
    if border < width - len(last) - 1:
        line[width - len(last) :] = last
    return Text("".join(line) + f" {zone.key}", "dim", no_wrap=True)
