"""What pictures of load share: measured load and its forecast on one axis of time, and files that are small."""

from __future__ import annotations

import io
from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from PIL import Image

from foreshard.forecast.band import Band, Floats, quantile_column

BLUE, GREY, RED, GREEN, ORANGE = "#1f5fa8", "#5b6570", "#c0392b", "#1e7d45", "#b9770e"


def style() -> AbstractContextManager[None]:
    """Within it figures are drawn as all our pictures are."""
    return mpl.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False})


def draw_load(axes: Axes, history: pd.Series[float], band: Band, step: timedelta, unit: float = 1.0) -> None:
    """History, then band and median, as multiples of ``unit``.

    Each value is drawn at the middle of its step, so that history and forecast meet.
    """
    half = step.total_seconds() / 2 / 86_400
    past = days(pd.DatetimeIndex(history.index)) + half
    axes.plot(past, history.to_numpy() / unit, color=GREY, linewidth=1.1, label="measured")
    ahead, values = drawn_steps(band.ts, band.quantiles / unit, step)
    for low, high, alpha, label in ((0, 6, 0.15, "5 to 95 %"), (2, 4, 0.25, "25 to 75 %")):
        axes.fill_between(
            ahead, values[:, low], values[:, high], color=BLUE, alpha=alpha, linewidth=0, label=label
        )
    axes.plot(ahead, values[:, 3], color=BLUE, linewidth=1.4, label="median forecast")
    axes.axvline(days([pd.Timestamp(band.ts[0])])[0], color=GREY, linewidth=0.8, linestyle=":")


def draw_effect(
    axes: Axes,
    band: Band,
    level: float,
    then: Floats,
    done_at: datetime,
    step: timedelta,
    what: str,
    unit: float = 1.0,
) -> None:
    """The quantile ``level`` with nothing moved, and dotted ``then``, what it is with ``what`` (``plan 3``) done.

    That is drawn from when all is done; if this is as late as the forecast's end or later, all along.
    """
    label, before = f"q{level:g}", band.quantiles[:, quantile_column(level)]
    moments, values = drawn_steps(band.ts, np.stack([before, then], axis=1) / unit, step)
    axes.plot(moments, values[:, 0], color=BLUE, linewidth=0.8, label=f"{label} with nothing moved")
    later = moments >= days([done_at])[0]
    if later.sum() < 2:
        later[:] = True
    axes.plot(
        moments[later], values[later, 1], color=GREEN, linewidth=1.6, linestyle=(0, (1.2, 1)),
        label=f"{label} with {what} done",
    )  # fmt: skip


def drawn_steps(starts: Iterable[datetime], values: Floats, step: timedelta) -> tuple[Floats, Floats]:
    """Where values of steps are drawn; a line needs two ends, so a single step gets both of its own."""
    half = step.total_seconds() / 2 / 86_400
    middles = days(starts) + half
    if len(middles) > 1:
        return middles, values
    return np.array([middles[0] - half, middles[0] + half]), np.repeat(values, 2, axis=0)


def time_axis(axes: Axes, zone: ZoneInfo) -> None:
    """Days and hours of the zone along the bottom."""
    locator = AutoDateLocator(tz=zone)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=zone))  # type: ignore[no-untyped-call]
    axes.margins(x=0)


def days(moments: Iterable[datetime]) -> Floats:
    """matplotlib's own dates: days since 1970, as floats."""
    return np.array([moment.timestamp() / 86_400 for moment in moments])


def small_png(figure: Figure) -> bytes:
    """64 colours are enough for lines and bands, and artifacts are kept for ever."""
    full, small = io.BytesIO(), io.BytesIO()
    figure.savefig(full, format="png")
    Image.open(full).convert("RGB").quantize(64).save(small, format="png", optimize=True)
    return small.getvalue()
