"""A series as a picture."""

from __future__ import annotations

import io
from zoneinfo import ZoneInfo

import matplotlib as mpl
import numpy as np
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from foreshard.load.shown_series import ShownSeries, unit_of

BLUE, GREY, RED = "#1f5fa8", "#5b6570", "#c0392b"


def series_png(shown: ShownSeries, timezone: str) -> bytes:
    """The values as a line that stops where there is a gap, and the capacity, if there is one."""
    zone = ZoneInfo(timezone)
    times = np.array([moment.timestamp() for moment in shown.times])
    values = shown.values.to_numpy(float)
    for begin, _ in shown.gaps[::-1]:
        at = int(np.searchsorted(times, begin.timestamp(), side="right"))
        if 0 < at < len(times):
            times, values = np.insert(times, at, times[at - 1]), np.insert(values, at, np.nan)
    with mpl.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(7.2, 2.8), dpi=100, layout="constrained")
        axes = figure.add_subplot()
        alone = ".-" if len(values) < 200 else "-"
        axes.plot(times / 86_400, values, alone, color=BLUE, linewidth=1.1, markersize=3, label="measured")
        for begin, end in shown.gaps:
            axes.axvspan(
                begin.timestamp() / 86_400, end.timestamp() / 86_400, color=GREY, alpha=0.10, linewidth=0
            )
        if shown.capacity is not None:
            axes.axhline(shown.capacity, color=RED, linewidth=1.2, linestyle="--", label="capacity")
        axes.set_xlim(shown.since.timestamp() / 86_400, shown.until.timestamp() / 86_400)
        axes.set_ylim(0, 1.12 * shown.top or 1.0)
        axes.set_title(f"{shown.metric} of {shown.name}", loc="left", fontsize=9, fontweight="bold")
        axes.set_ylabel(unit_of(shown.metric))
        axes.yaxis.set_major_formatter(EngFormatter())  # 20 M, 1.5 k
        axes.set_title(timezone, loc="right", fontsize=7, color=GREY)
        locator = AutoDateLocator(tz=zone)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=zone))  # type: ignore[no-untyped-call]
        handles, labels = axes.get_legend_handles_labels()
        if shown.gaps:
            handles.append(mpl.patches.Patch(color=GREY, alpha=0.10))
            labels.append("gap")
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=7, frameon=False)
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png")
    return drawn.getvalue()
