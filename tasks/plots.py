"""Pictures for artifacts and approval forms: a shard's forecast as a small PNG inside a data URI.

Both of Prefect's UIs show a data-URI picture in markdown; inline `<svg>` is stripped.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from PIL import Image

HISTORY_SHOWN = pd.Timedelta(days=3)
BLUE, GREY, RED = "#1f5fa8", "#5b6570", "#c0392b"


@dataclass(frozen=True)
class ForecastPicture:
    """One series to draw. ``quantiles`` has the shape (steps, 7): .05 .10 .25 .50 .75 .90 .95."""

    title: str
    unit: str
    history: pd.Series[float]
    times: Sequence[datetime]
    quantiles: np.ndarray
    capacity: float
    now: datetime
    timezone: str
    excess_at: datetime | None = None


def forecast_png(picture: ForecastPicture) -> bytes:
    """History, band, median, capacity and, if there is one, the forecast time of excess. About 10 KB."""
    zone = ZoneInfo(picture.timezone)
    history = picture.history[picture.history.index >= pd.Timestamp(picture.now) - HISTORY_SHOWN]
    steps, band, capacity = _days(picture.times), picture.quantiles, picture.capacity
    with mpl.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(7.2, 2.8), dpi=100, layout="constrained")
        axes = figure.add_subplot()
        axes.plot(_days(history.index), history.to_numpy(), color=GREY, linewidth=1.1, label="measured")
        axes.fill_between(
            steps, band[:, 0], band[:, 6], color=BLUE, alpha=0.15, linewidth=0, label="5 to 95 %"
        )
        axes.fill_between(
            steps, band[:, 2], band[:, 4], color=BLUE, alpha=0.25, linewidth=0, label="25 to 75 %"
        )
        axes.plot(steps, band[:, 3], color=BLUE, linewidth=1.4, label="median forecast")
        axes.axhline(capacity, color=RED, linewidth=1.2, linestyle="--", label="capacity")
        axes.axvline(_days([picture.now])[0], color=GREY, linewidth=0.8, linestyle=":")
        if picture.excess_at is not None:
            excess = _days([picture.excess_at])[0]
            axes.axvline(excess, color=RED, linewidth=1.0)
            label = f"over capacity {picture.excess_at.astimezone(zone):%a %H:%M} "
            axes.text(excess, capacity * 1.04, label, ha="right", va="bottom", color=RED)
        top = max(capacity, float(band.max()), float(history.max()) if len(history) else 0.0)
        axes.set_ylim(0, 1.18 * top)
        axes.set_title(picture.title, loc="left", fontsize=9, fontweight="bold")
        axes.set_ylabel(picture.unit)
        locator = AutoDateLocator(tz=zone)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=zone))  # type: ignore[no-untyped-call]
        figure.legend(loc="outside lower center", ncols=5, fontsize=7, frameon=False)
        return _small_png(figure)


def _days(moments: Iterable[datetime]) -> np.ndarray:
    """matplotlib's own dates: days since 1970, as floats."""
    return np.array([moment.timestamp() / 86_400 for moment in moments])


def _small_png(figure: Figure) -> bytes:
    """64 colours are enough for lines and bands, and artifacts are kept for ever."""
    full, small = io.BytesIO(), io.BytesIO()
    figure.savefig(full, format="png")
    Image.open(full).convert("RGB").quantize(64).save(small, format="png", optimize=True)
    return small.getvalue()


def as_markdown(png: bytes, text: str) -> str:
    """The picture as a markdown image with ``text`` for those who cannot see it."""
    return f"![{text}](data:image/png;base64,{base64.b64encode(png).decode()})"
