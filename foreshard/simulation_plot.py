"""A simulation as pictures: every shard's utilisation over time, and how long it was saturated."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from foreshard.simulate.outcome import Outcome

RED, GREY, BLUE = "#c0392b", "#5b6570", "#1f5fa8"
COLOURS = (
    "#1f5fa8",
    "#e08a1e",
    "#2e8b57",
    "#8e5ea2",
    "#3b3b3b",
    "#17a2b8",
    "#d6568c",
    "#6b7f2a",
    "#4d4d9f",
    "#777777",
)
HIGHEST_DRAWN = 1.6
POINTS = 1_500
"""Of a line: what is more is drawn as the highest of neighbours, so that no peak is lost."""


def utilisation_png(outcomes: Sequence[Outcome]) -> bytes:
    """One fleet under several contenders, one below the other; a mark below where each migration ended."""
    with mpl.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(9.6, 1.75 * len(outcomes) + 0.5), dpi=110, layout="constrained")
        all_axes = np.atleast_1d(figure.subplots(len(outcomes), 1, sharex=True, sharey=True))
        top = min(HIGHEST_DRAWN, max(1.15, 1.05 * max(float(one.utilisation.max()) for one in outcomes)))
        for axes, one in zip(all_axes, outcomes, strict=True):
            _draw(axes, one, top)
        locator = AutoDateLocator()  # type: ignore[no-untyped-call]
        all_axes[-1].xaxis.set_major_locator(locator)
        all_axes[-1].xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
        if len(outcomes[0].shards) <= len(COLOURS):
            handles, labels = all_axes[0].get_legend_handles_labels()
            figure.legend(
                handles,
                labels,
                loc="outside lower center",
                ncols=min(6, len(labels)),
                fontsize=7,
                frameon=False,
            )
        return _png(figure)


def saturation_png(outcomes: Sequence[Outcome]) -> bytes:
    """Saturated shard-minutes of each contender as bars."""
    with mpl.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(9.6, 0.32 * len(outcomes) + 0.6), dpi=110, layout="constrained")
        axes = figure.add_subplot()
        minutes = [one.saturated_minutes for one in outcomes]
        at = np.arange(len(outcomes))[::-1]
        ours = [BLUE if one.contender == "predictive" else "#b8c4d0" for one in outcomes]
        axes.barh(at, minutes, color=ours, height=0.65)
        for row, value in zip(at, minutes, strict=True):
            axes.text(value, row, f" {value:,.0f}", va="center", color=GREY)
        axes.set_yticks(at, [one.contender for one in outcomes])
        axes.set_xlim(0, 1.12 * max(*minutes, 1.0))
        axes.set_xlabel("saturated shard-minutes")
        return _png(figure)


def _draw(axes: Axes, one: Outcome, top: float) -> None:
    days = (
        one.starts_at.timestamp() / 86_400
        + np.arange(one.utilisation.shape[1]) * one.step.total_seconds() / 86_400
    )
    each = max(1, -(-len(days) // POINTS))
    begins = np.arange(0, len(days), each)
    drawn = np.maximum.reduceat(one.utilisation, begins, axis=1)
    for row, shard in enumerate(one.shards):
        axes.plot(days[begins], drawn[row], color=COLOURS[row % len(COLOURS)], linewidth=0.7, label=shard)
    worst = drawn.max(axis=0)
    axes.fill_between(
        days[begins],
        1.0,
        np.minimum(worst, top),
        where=worst > 1.0,
        color=RED,
        alpha=0.35,
        linewidth=0,
        step="mid",
    )
    axes.axhline(1.0, color=RED, linewidth=0.9, linestyle="--")
    if one.moves:
        ends = [move.cutover_at.timestamp() / 86_400 for move in one.moves]
        axes.plot(ends, np.full(len(ends), -0.04 * top), "|", color=GREY, markersize=5, clip_on=False)
    axes.set_ylim(-0.08 * top, top)
    axes.set_yticks([0, 0.5, 1.0])
    axes.set_xlim(days[0], days[-1])
    moved = f"{len(one.moves)} migrations, {one.bytes / 1e9:,.0f} GB" if one.moves else "nothing moved"
    axes.set_title(one.contender, loc="left", fontsize=9, fontweight="bold")
    axes.set_title(
        f"{one.saturated_minutes:,.0f} saturated shard-minutes, {moved}", loc="right", color=GREY, fontsize=8
    )
    axes.set_ylabel("of capacity")


def _png(figure: Figure) -> bytes:
    into = io.BytesIO()
    figure.savefig(into, format="png")
    return into.getvalue()
