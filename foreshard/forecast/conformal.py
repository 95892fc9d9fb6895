"""Calibration: a band is moved by how the bands issued before it were missed.

Two steps, both from past origins whose truth has come. *Rolling* conformal prediction: each level is moved by the
quantile of its own past misses, in units of the band's width (conformalised quantile regression: Romano, Patterson and
Candes 2019; with newer misses weighing more: Barber et al. 2023). It goes stale when load changes, so the outermost
levels are also *tracked*: each time truth falls outside, its side of the band is widened a little, each time it does
not, narrowed (adaptive conformal inference: Gibbs and Candes 2021; in units of the score: Angelopoulos, Candes and
Tibshirani 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foreshard.forecast.band import QUANTILES, Floats, quantile_column
from foreshard.forecast.panel import Panel
from foreshard.forecast.scores import coverage

HALF_LIFE = 7.0
"""Days after which a miss counts half."""
BELIEF = 4.0
"""Days of its own misses that count as much as those of all series of its kind."""
STRENGTH = {0.05: 0.5, 0.95: 0.5}
"""Share of a level's correction that is applied. On recorded loads half of it brought most of the coverage; the whole
of it, and any of the inner levels', followed noise and cost more pinball loss than it gained.
"""
FURTHEST = 1.0
"""Widths of the band by which a level is moved at most by the first step, ``TRACKED`` by the second."""
TRACKED = (-0.25, 2.0)
STEP = 0.3
"""Of the width, for each part of the truth that was outside beyond what should be."""
FADES = 0.97
"""What is left of a tracked correction at the next origin."""
NARROWEST = 0.05
"""Of a series' mean width: the least that a correction is measured in."""

_OUTER = (quantile_column(0.05), quantile_column(0.95))
_MEDIAN = quantile_column(0.5)


@dataclass(frozen=True, eq=False)
class Calibrated:
    """``quantiles``: (series, horizon, 7), to be issued. ``past``: (origins, series, horizon, 7), as they would have
    been issued. ``coverage``: share of truth within the past ones' 90 % band, (series,), NaN where none is known.
    """

    quantiles: Floats
    past: Floats
    coverage: Floats


def calibrate(
    past: Floats, truth: Floats, origins: Sequence[int], present: Floats, panel: Panel
) -> Calibrated:
    """Move ``present``, shape (series, horizon, 7), by how ``past``, (origins, series, horizon, 7), missed ``truth``,
    (origins, series, horizon).

    ``origins``: steps of the panel, oldest first; the panel ends where ``present`` begins. At each origin only truth
    from before it is used, so that ``past`` comes out as if it had been issued then. NaN is not known. Quantiles stay
    above zero and do not cross.
    """
    every = np.concatenate([past, present[None]])
    at = np.asarray([*origins, panel.steps])
    width = np.maximum(every[..., _OUTER[1]] - every[..., _OUTER[0]], 0.0)
    width = np.maximum(width, NARROWEST * _mean(width)[None, :, None] + 1e-12)
    with np.errstate(invalid="ignore"):
        missed = (truth[..., None] - past) / width[:-1, ..., None]
    kinds = np.asarray([key.shard is not None for key in panel.keys])
    tracked = np.zeros((2, len(panel.keys)))
    issued = np.full_like(every, np.nan)
    ahead = np.arange(present.shape[1])
    for turn, origin in enumerate(at):
        come = at[:turn, None] + ahead < origin
        known = np.where(come[:, None, :, None], missed[:turn], np.nan)
        recency = 0.5 ** ((origin - at[:turn]) / panel.day / HALF_LIFE)
        moved = every[turn] + _rolling(known, recency, kinds, panel.day)[:, None] * width[turn][..., None]
        if turn:
            new = come & (at[:turn, None] + ahead >= at[turn - 1])
            tracked = _track(tracked, issued[:turn], np.where(new[:, None], truth[:turn], np.nan))
        moved[..., _OUTER[0]] -= tracked[0][:, None] * width[turn]
        moved[..., _OUTER[1]] += tracked[1][:, None] * width[turn]
        issued[turn] = _in_order(moved, every[turn][..., _MEDIAN])
    of_past = issued[:-1]
    covered = coverage(of_past, truth) if len(past) else np.full(len(panel.keys), np.nan)
    return Calibrated(issued[-1], of_past, covered)


def _rolling(missed: Floats, recency: Floats, kinds: npt.NDArray[np.bool_], day: int) -> Floats:
    """By how many widths each level is to be moved, shape (series, 7)."""
    origins, series, horizon, _ = missed.shape
    move = np.zeros((series, len(QUANTILES)))
    if not origins:
        return move
    each = missed.transpose(1, 0, 2, 3).reshape(series, origins * horizon, -1)
    weight = np.where(np.isfinite(each[..., 0]), np.repeat(recency, horizon), 0.0)
    days = weight.sum(axis=1) / day
    belief = days / (days + BELIEF)
    for column, level in enumerate(QUANTILES):
        if level not in STRENGTH:
            continue
        own = _quantile(each[..., column], weight, level)
        common = np.zeros(series)
        for kind in np.unique(kinds):
            of = kinds == kind
            common[of] = _quantile(each[of, :, column].reshape(1, -1), weight[of].reshape(1, -1), level)
        move[:, column] = STRENGTH[level] * (belief * own + (1.0 - belief) * common)
    return move


def _track(tracked: Floats, issued: Floats, truth: Floats) -> Floats:
    """The corrections of the lower and the upper end, shape (2, series), after truth that has just come."""
    known = np.isfinite(truth) & np.isfinite(issued[..., 0])
    count = known.sum(axis=(0, 2))
    with np.errstate(invalid="ignore"):
        outside = np.stack([truth < issued[..., _OUTER[0]], truth > issued[..., _OUTER[1]]])
    share = (outside & known).sum(axis=(1, 3)) / np.maximum(count, 1)
    wanted = QUANTILES[_OUTER[0]]
    step = np.where(count > 0, share - wanted, 0.0)
    return np.clip(FADES * tracked + STEP * step, *TRACKED)


def _in_order(moved: Floats, median: Floats) -> Floats:
    """Levels below the median not above it, those above not below it, none below zero, none crossing."""
    moved[..., :_MEDIAN] = np.minimum(moved[..., :_MEDIAN], median[..., None])
    moved[..., _MEDIAN + 1 :] = np.maximum(moved[..., _MEDIAN + 1 :], median[..., None])
    return np.sort(np.maximum(moved, 0.0), axis=-1)


def _quantile(values: Floats, weights: Floats, level: float) -> Floats:
    """Weighted quantile of each row, within ``FURTHEST``; 0 of a row without weight; shape (rows,)."""
    order = np.argsort(np.where(weights > 0, values, np.inf), axis=1)
    ordered = np.take_along_axis(values, order, axis=1)
    until = np.take_along_axis(weights, order, axis=1).cumsum(axis=1)
    total = until[:, -1]
    at = np.argmax(until >= level * total[:, None] - 1e-12, axis=1)
    found = np.take_along_axis(ordered, at[:, None], axis=1)[:, 0]
    return np.where(total > 0, np.clip(np.nan_to_num(found), -FURTHEST, FURTHEST), 0.0)


def _mean(width: Floats) -> Floats:
    """Mean width of each series over origins and steps that are known."""
    known = np.isfinite(width)
    mean: Floats = np.where(known, width, 0.0).sum(axis=(0, 2)) / np.maximum(known.sum(axis=(0, 2)), 1)
    return mean
