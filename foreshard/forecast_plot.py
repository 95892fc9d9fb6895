"""A forecast as a picture: history, band, capacity, and when the one exceeds the other."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from foreshard.forecast.band import Floats
from foreshard.forecast.result import ForecastResult
from foreshard.load.shown_series import unit_of
from foreshard.load_axes import GREY, RED, days, draw_effect, draw_load, small_png, style, time_axis
from foreshard.quantities import chance, resource

SHORTEST_HISTORY, LONGEST_HISTORY = timedelta(hours=6), timedelta(days=4)


@dataclass(frozen=True, eq=False)
class Relieved:
    """What becomes of a series when ``plans`` (their numbers) are done, which is at ``done_at``.

    ``values``: the quantile that counts, at each step of the band, in the metric's unit.
    """

    plans: tuple[int, ...]
    values: Floats
    done_at: datetime

    @property
    def name(self) -> str:
        """``plan 3``, ``plans 3, 4``."""
        return f"plan{'s' if len(self.plans) > 1 else ''} {', '.join(map(str, self.plans))}"


@dataclass(frozen=True)
class ForecastPicture:
    """What is drawn of one series.

    ``history``: means by the beginning (UTC) of their step, in the metric's unit; a NaN is a gap. ``capacity``: None
    for a series without one, as a bucket's. ``level``: the quantile that counts for decisions. ``relieved``: None where
    no plan takes load away.
    """

    result: ForecastResult
    history: pd.Series[float]
    step: timedelta
    capacity: float | None
    timezone: str
    level: float
    relieved: Relieved | None = None

    @property
    def name(self) -> str:
        """``cpu cores of shard-1``."""
        key = self.result.key
        return f"{resource(key.metric)} of {key.shard or key.bucket}"

    @property
    def starts_at(self) -> datetime:
        """Where history ends and the forecast begins."""
        return pd.Timestamp(self.result.band.ts[0]).to_pydatetime()

    @property
    def ends_at(self) -> datetime:
        """The end of the forecast's last step."""
        return pd.Timestamp(self.result.band.ts[-1]).to_pydatetime() + self.step

    @property
    def excess_at(self) -> datetime | None:
        """From when the quantile that counts is above the capacity."""
        return None if self.capacity is None else self.result.band.first_above(self.capacity, self.level)

    @property
    def risk(self) -> float | None:
        """Probability that the capacity is exceeded at some step; None without a capacity."""
        return None if self.capacity is None else self.result.peak.above(self.capacity)


def shown_history(horizon: timedelta) -> timedelta:
    """How much history stands before a forecast so that both can be seen: a few hours to some days."""
    return min(max(4 * horizon, SHORTEST_HISTORY), LONGEST_HISTORY)


def forecast_png(picture: ForecastPicture) -> bytes:
    """About 10 KB: pictures are kept with every run."""
    zone = ZoneInfo(picture.timezone)
    with style():
        figure = Figure(figsize=(7.2, 2.8), dpi=100, layout="constrained")
        axes = figure.add_subplot()
        draw_load(axes, picture.history, picture.result.band, picture.step)
        if (done := picture.relieved) is not None:
            draw_effect(
                axes, picture.result.band, picture.level, done.values, done.done_at, picture.step, done.name
            )
        if picture.capacity is not None:
            axes.axhline(picture.capacity, color=RED, linewidth=1.2, linestyle="--", label="capacity")
            if picture.excess_at is not None:
                _mark_excess(axes, picture, zone)
        axes.set_ylim(0, 1.18 * _top(picture) or 1.0)
        said = "" if picture.risk is None else f": {chance(picture.risk)} to exceed capacity"
        axes.set_title(picture.name + said, loc="left", fontsize=9, fontweight="bold")
        axes.set_title(picture.timezone, loc="right", fontsize=7, color=GREY)
        axes.set_ylabel(unit_of(picture.result.key.metric))
        axes.yaxis.set_major_formatter(EngFormatter())  # 20 M, 1.5 k
        time_axis(axes, zone)
        columns = 5 if picture.relieved is None else 4
        figure.legend(loc="outside lower center", ncols=columns, fontsize=7, frameon=False)
        return small_png(figure)


def _mark_excess(axes: Axes, picture: ForecastPicture, zone: ZoneInfo) -> None:
    assert picture.excess_at is not None
    assert picture.capacity is not None
    moment = days([picture.excess_at])[0]
    axes.axvline(moment, color=RED, linewidth=1.0)
    label = f"over capacity {picture.excess_at.astimezone(zone):%a %H:%M} "
    behind = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
    axes.text(moment, 1.15 * _top(picture), label, ha="right", va="top", color=RED, bbox=behind)


def _top(picture: ForecastPicture) -> float:
    known = picture.history.dropna()
    highest = float(known.max()) if len(known) else 0.0
    return max(picture.capacity or 0.0, float(picture.result.band.quantiles.max()), highest)
