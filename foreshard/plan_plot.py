"""A plan as a picture: both ends' load, now and with the plan done; and a decision's plans along time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from foreshard.forecast.band import Band, Floats
from foreshard.load_axes import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    days,
    draw_effect,
    draw_load,
    small_png,
    style,
    time_axis,
)  # fmt: skip
from foreshard.planning.plan import Decision, MigrationPlan, Purpose
from foreshard.quantities import resource

COLOURS = {Purpose.RELIEF: BLUE, Purpose.DRAIN: ORANGE, Purpose.PIN: GREEN, Purpose.BALANCE: GREY}
MOST_PLANS = 25
"""Rows of a timeline; a longer one is cut, in the plans' order."""


@dataclass(frozen=True, eq=False)
class EndPicture:
    """One end of a plan, in one metric.

    ``history``: means by the beginning (UTC) of their step. ``band``: the forecast with nothing moved. ``then``: the
    quantile that counts at each step of the band, with the plan done; all in the metric's unit, as ``capacity``.
    ``ceiling``: the share of capacity that planning keeps it under.
    """

    shard: str
    history: pd.Series[float]
    band: Band
    then: Floats
    capacity: float
    ceiling: float


@dataclass(frozen=True, eq=False)
class PlanPicture:
    """Both ends of a plan in the metric that it is about. ``level``: the quantile that counts."""

    plan: MigrationPlan
    metric: str
    source: EndPicture
    target: EndPicture
    step: timedelta
    level: float
    timezone: str


def plan_png(picture: PlanPicture) -> bytes:
    """Source above target, in units of capacity: about 25 KB. Side by side they are too small in the approval form."""
    with style():
        figure = Figure(figsize=(7.2, 5.2), dpi=100, layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, sharey=True)
        for axes, end, role in ((above, picture.source, "source"), (below, picture.target, "target")):
            _draw_end(axes, end, picture)
            axes.set_title(f"{role}: {_short(end.shard, 60)}", loc="left", fontsize=9, fontweight="bold")
            axes.set_ylabel(f"{resource(picture.metric)}, of capacity", fontsize=7)
        above.set_title(picture.timezone, loc="right", fontsize=7, color=GREY)
        above.set_ylim(0, 1.22 * max(_top(picture.source), _top(picture.target)))
        above.yaxis.set_major_formatter(PercentFormatter(1.0))
        _mark_deadline(above, picture)
        handles, labels = above.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=7, frameon=False)
        return small_png(figure)


def timeline_png(
    decision: Decision,
    names: Sequence[str],
    closed: Sequence[tuple[datetime, datetime]],
    timezone: str,
) -> bytes:
    """The decision's plans along time. ``closed``: when no migration may run, outside of windows or in a blackout."""
    zone = ZoneInfo(timezone)
    plans = decision.plans[:MOST_PLANS]
    with style():
        figure = Figure(figsize=(9.6, 1.3 + 0.28 * len(plans)), dpi=100, layout="constrained")
        axes = figure.add_subplot()
        axes.set_xlim(*days(timeline_span(decision)))
        for begin, end in closed:
            axes.axvspan(*days([begin, end]), color=GREY, alpha=0.18, linewidth=0)
        for row in range(len(plans)):
            _draw_row(axes, row, plans)
        axes.axvline(days([decision.decided_at])[0], color=GREY, linewidth=0.8, linestyle=":")
        axes.set_ylim(len(plans) - 0.4, -0.6)
        labels = [
            f"{name}: {_short(plan.source)} → {_short(plan.target)}"
            for name, plan in zip(names, plans, strict=False)
        ]
        axes.set_yticks(range(len(plans)), labels)
        axes.tick_params(axis="y", length=0)
        more = len(decision.plans) - len(plans)
        axes.set_title(
            "When the plans run" + (f" (the first {MOST_PLANS}, {more} more)" if more else ""),
            loc="left", fontsize=9, fontweight="bold",
        )  # fmt: skip
        axes.set_title(timezone, loc="right", fontsize=7, color=GREY)
        axes.xaxis.grid(visible=True, color=GREY, alpha=0.2, linewidth=0.6)
        _keep_limits(axes, zone)
        marks = _row_marks(plans, bool(closed))
        figure.legend(handles=marks, loc="outside lower center", ncols=len(marks), fontsize=7, frameon=False)
        return small_png(figure)


def timeline_span(decision: Decision) -> tuple[datetime, datetime]:
    """From when until when a decision's plans are drawn."""
    marks = [decision.decided_at]
    for plan in decision.plans[:MOST_PLANS]:
        marks += [plan.timeline.not_before, plan.timeline.ends_at]
        marks += [plan.excess_at] if plan.excess_at else []
    around = max(0.04 * (max(marks) - min(marks)), timedelta(minutes=10))
    return min(marks) - around, max(marks) + around


def _draw_end(axes: Axes, end: EndPicture, picture: PlanPicture) -> None:
    zone, when = ZoneInfo(picture.timezone), picture.plan.timeline
    draw_load(axes, _shown(end), end.band, picture.step, unit=end.capacity)
    draw_effect(axes, end.band, picture.level, end.then, when.ends_at, picture.step, "the plan", end.capacity)
    begin, done = days([when.not_before, when.ends_at])
    axes.axhline(1.0, color=RED, linewidth=1.2, linestyle="--", label="capacity")
    axes.axhline(end.ceiling, color=ORANGE, linewidth=0.9, linestyle="-.", label="limit of planning")
    axes.set_xlim(*_span(end, picture.step))
    axes.axvspan(begin, done, facecolor=GREEN, edgecolor=GREEN, alpha=0.35, linewidth=1.5, label="migration")
    _keep_limits(axes, zone)
    axes.tick_params(axis="x", labelsize=7)


def _mark_deadline(axes: Axes, picture: PlanPicture) -> None:
    """On the source: the latest start, and when the excess begins."""
    zone, when = ZoneInfo(picture.timezone), picture.plan.timeline
    if when.excess_at is None:
        return
    top = axes.get_ylim()[1]
    behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
    marks = [(when.excess_at, "over capacity", RED, 0.99)]
    if not when.late:
        marks.append((when.start_by, "start by", GREEN, 0.91))
    left, right = axes.get_xlim()
    for moment, words, colour, height in marks:
        (at,) = days([moment])
        axes.axvline(at, color=colour, linewidth=0.9)
        side = "right" if at - left > (right - left) / 2 else "left"
        said = f" {words} {moment.astimezone(zone):%a %H:%M} "
        axes.text(at, height * top, said, ha=side, va="top", color=colour, fontsize=7, bbox=behind)


def _draw_row(axes: Axes, row: int, plans: Sequence[MigrationPlan]) -> None:
    plan = plans[row]
    begin, end = days([plan.timeline.not_before, plan.timeline.ends_at])
    axes.barh(row, end - begin, left=begin, height=0.55, color=COLOURS[plan.purpose])
    if plan.excess_at is not None:
        at, by = days([plan.excess_at, plan.timeline.start_by])
        axes.plot([at, at], [row - 0.38, row + 0.38], color=RED, linewidth=1.6)
        if not plan.timeline.late:
            axes.plot([by], [row], marker=">", markersize=4, color=RED)
    for position in plan.after:
        if position < len(plans):
            earlier = days([plans[position].timeline.ends_at])[0]
            axes.plot([earlier, begin, begin], [position, position, row], color=GREY, linewidth=0.9, zorder=0)


def _row_marks(plans: Sequence[MigrationPlan], closed: bool) -> list[Patch | Line2D]:
    purposes = sorted({plan.purpose for plan in plans}, key=list(Purpose).index)
    marks: list[Patch | Line2D] = [Patch(color=COLOURS[one], label=one.value) for one in purposes]
    if any(plan.excess_at for plan in plans):
        marks += [
            Line2D([], [], color=RED, marker=">", markersize=4, linestyle="", label="latest start"),
            Line2D([], [], color=RED, marker="|", markersize=8, linestyle="", label="over capacity from"),
        ]
    if any(plan.after for plan in plans):
        marks.append(Line2D([], [], color=GREY, linewidth=0.9, label="waits for"))
    marks.append(Line2D([], [], color=GREY, linewidth=0.8, linestyle=":", label="decided"))
    if closed:
        marks.append(Patch(color=GREY, alpha=0.3, label="no migrations"))
    return marks


def _keep_limits(axes: Axes, zone: ZoneInfo) -> None:
    """Spans and marks beyond what is drawn do not widen it."""
    limits = axes.get_xlim()
    time_axis(axes, zone)
    axes.set_xlim(limits)


def _shown(end: EndPicture) -> pd.Series[float]:
    """As much history as there is forecast, but half a day at least."""
    return end.history[end.history.index >= end.band.ts[0] - _ahead(end)]


def _span(end: EndPicture, step: timedelta) -> Floats:
    begin = pd.Timestamp(end.band.ts[0])
    return days([begin - _ahead(end), pd.Timestamp(end.band.ts[-1]) + step])


def _ahead(end: EndPicture) -> pd.Timedelta:
    found: pd.Timedelta = max(end.band.ts[-1] - end.band.ts[0], pd.Timedelta(hours=12))
    return found


def _top(end: EndPicture) -> float:
    known = _shown(end).dropna()
    highest = max(
        float(known.max()) if len(known) else 0.0, float(end.band.quantiles.max()), float(end.then.max())
    )
    return max(1.0, highest / end.capacity)


def _short(name: str, most: int = 20) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
