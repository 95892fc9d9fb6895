"""How good forecasts were: losses of quantiles, coverage of bands, and what alarms were worth.

Predicted quantiles have shape (origins, series, horizon, 7), truth (origins, series, horizon), in the metric's
unit. Where either is NaN nothing is known, and nothing is counted; a score of nothing is NaN.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foreshard.errors import InvalidInput
from foreshard.forecast.band import QUANTILES, Floats, quantile_column

Bools = npt.NDArray[np.bool_]

NOTHING = 1e-6
"""A loss below this share of the mean truth is what rounding left: values are stored with seven digits."""
SMALLEST_RATIO = 0.01
"""No series improves a geometric mean by more than a hundredfold: a perfect one would make it zero."""


def pinball(predicted: Floats, truth: Floats) -> Floats:
    """Loss of each quantile, of ``predicted``'s shape: level x miss below the truth, (1 - level) x miss above it.

    Koenker and Bassett, *Regression Quantiles*, Econometrica 46 (1978).
    """
    miss = truth[..., None] - predicted
    levels = np.asarray(QUANTILES)
    losses: Floats = np.maximum(levels * miss, (levels - 1.0) * miss)
    return losses


def mean_pinball(predicted: Floats, truth: Floats) -> Floats:
    """Of each series, shape (series,): the mean of ``pinball`` over origins, steps and levels, in the metric's unit."""
    return _mean(pinball(predicted, truth).mean(axis=-1))


def weighted_pinball(predicted: Floats, truth: Floats) -> Floats:
    """Of each series, shape (series,): twice the losses' sum, averaged over the levels, by the sum of ``|truth|``.

    The mean weighted quantile loss of Makridakis, Spiliotis and Assimakopoulos, *The M5 uncertainty competition*
    (2022), and of GluonTS. Of a point forecast it is the sum of absolute errors by the sum of truth. Infinite for
    a series that is zero throughout and was not predicted so.
    """
    losses = pinball(predicted, truth).mean(axis=-1)
    weight = np.where(np.isfinite(losses), np.abs(truth), np.nan)
    return _ratio(2.0 * _total(losses), _total(weight))


def absolute_error(predicted: Floats, truth: Floats) -> Floats:
    """Mean absolute error of each series' median, shape (series,)."""
    return _mean(np.abs(predicted[..., quantile_column(0.5)] - truth))


def seasonal_error(history: Floats, season: int) -> Floats:
    """MASE's denominator *in sample*, shape (series,): the mean change of ``history`` (series, steps) over a season.

    Raises ``InvalidInput`` (field ``season``) for a season of no steps.
    """
    if season < 1:
        raise InvalidInput("season", f"{season} is no number of steps")
    change = np.abs(history[:, season:] - history[:, :-season])
    return _mean(change[None])


def mase(predicted: Floats, truth: Floats, scale: Floats) -> Floats:
    """Mean absolute scaled error of each series' median, shape (series,).

    Hyndman and Koehler, *Another look at measures of forecast accuracy* (2006). ``scale``, shape (series,), is
    ``seasonal_error`` of the history (their definition), or ``absolute_error`` of the seasonal naive at the same
    origins: then it is the ratio to the naive, *out of sample*. Infinite where the scale is zero and the error not.
    """
    return _ratio(absolute_error(predicted, truth), scale)


def coverage(predicted: Floats, truth: Floats, low: float = 0.05, high: float = 0.95) -> Floats:
    """Share of each series' truth within the band from ``low`` to ``high``, edges included, shape (series,).

    Raises ``InvalidInput`` for levels that no band has.
    """
    below, above = predicted[..., quantile_column(low)], predicted[..., quantile_column(high)]
    inside = ((truth >= below) & (truth <= above)).astype(float)
    return _mean(np.where(np.isfinite(truth) & np.isfinite(below) & np.isfinite(above), inside, np.nan))


def points(predicted: Floats, truth: Floats) -> npt.NDArray[np.intp]:
    """How many steps of each series are judged, shape (series,)."""
    judged: npt.NDArray[np.intp] = (np.isfinite(predicted).all(axis=-1) & np.isfinite(truth)).sum(axis=(0, 2))
    return judged


def brier(probability: Floats, happened: Floats) -> Floats:
    """Mean squared difference of probability and outcome of each series; both of shape (origins, series), 0 or 1 or
    NaN the outcome.

    Brier, *Verification of forecasts expressed in terms of probability* (1950). 0 is best; the share p of events
    foretold always gives p (1 - p).
    """
    return _mean(((probability - happened) ** 2)[..., None])


@dataclass(frozen=True, eq=False)
class Reliability:
    """``predicted`` and ``observed``, shape (bins,): mean probability and share of events; ``count``: of forecasts.

    NaN for a bin that no forecast fell into.
    """

    predicted: Floats
    observed: Floats
    count: npt.NDArray[np.intp]


def reliability(probability: Floats, happened: Floats, bins: int = 10) -> Reliability:
    """Do events foretold with probability p happen in p of all cases? In ``bins`` equal parts of 0 to 1.

    Murphy and Winkler, *Reliability of subjective probability forecasts* (1977). Raises ``InvalidInput`` (field
    ``bins``) for less than one.
    """
    if bins < 1:
        raise InvalidInput("bins", f"{bins} is no number of bins")
    told, was = _known(probability, happened)
    bin_of = np.minimum((told * bins).astype(int), bins - 1)
    count = np.bincount(bin_of, minlength=bins)
    each = np.where(count == 0, np.nan, count.astype(float))
    predicted, observed = (_ratio(_sums(bin_of, of, bins), each) for of in (told, was))
    return Reliability(predicted, observed, count)


def precision_at_recall(probability: Floats, happened: Floats, recall: float) -> float:
    """Best share of true alarms among alarms, over all thresholds that find at least ``recall`` of the events.

    All of any shape, pooled. NaN if nothing happened. Raises ``InvalidInput`` (field ``recall``) outside 0 to 1.
    """
    if not 0.0 < recall <= 1.0:
        raise InvalidInput("recall", f"{recall} is not above 0 and at most 1")
    told, was = _known(probability, happened)
    events = was.sum()
    if not events:
        return float("nan")
    order = np.argsort(-told, kind="stable")
    found = np.cumsum(was[order])
    alarms = np.arange(1, len(order) + 1)
    # A threshold takes all forecasts of the same probability or none.
    last = np.append(np.diff(told[order]) != 0, True)
    enough = last & (found >= recall * events - 1e-9)
    return float((found / alarms)[enough].max())


@dataclass(frozen=True)
class Relative:
    """Losses of many series against a reference's.

    ``mean``: geometric mean of the ratios over ``series`` series; ``left_out``: how many had a reference without
    loss, of which no ratio can be taken. ``not_worse``: share of all, those included, whose loss is at most the
    reference's. NaN of no series.
    """

    mean: float
    series: int
    left_out: int
    not_worse: float


def relative(losses: Floats, reference: Floats, size: Floats) -> Relative:
    """``losses`` against ``reference``; ``size``: what a large loss would be, the mean truth. All shape (series,).

    The geometric mean treats twice and half alike (Fleming and Wallace, *How not to lie with statistics*, 1986).
    """
    known = np.isfinite(losses) & np.isfinite(reference)
    losses, reference, nothing = losses[known], reference[known], NOTHING * np.abs(size[known])
    if not len(losses):
        return Relative(float("nan"), 0, 0, float("nan"))
    compared = reference > nothing
    ratios = np.maximum(losses[compared] / reference[compared], SMALLEST_RATIO)
    return Relative(
        mean=float(np.exp(np.log(ratios).mean())) if len(ratios) else float("nan"),
        series=int(compared.sum()),
        left_out=int((~compared).sum()),
        not_worse=float((losses <= reference * (1.0 + NOTHING) + nothing).mean()),
    )


def _known(probability: Floats, happened: Floats) -> tuple[Floats, Floats]:
    known = np.isfinite(probability) & np.isfinite(happened)
    return probability[known], happened[known]


def _sums(bin_of: npt.NDArray[np.intp], values: Floats, bins: int) -> Floats:
    return np.bincount(bin_of, weights=values, minlength=bins).astype(float)


def _total(values: Floats) -> Floats:
    """Sum over origins and steps of what is known, NaN of nothing, shape (series,)."""
    total: Floats = np.where(np.isfinite(values).any(axis=(0, 2)), np.nansum(values, axis=(0, 2)), np.nan)
    return total


def _mean(values: Floats) -> Floats:
    """Mean over origins and steps of what is known, NaN of nothing, shape (series,)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of nothing
        mean: Floats = np.nanmean(values, axis=(0, 2), dtype=float)
    return mean


def _ratio(above: Floats, below: Floats) -> Floats:
    """Nothing by nothing is nothing; infinite where only the divisor is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Floats = np.where((above == 0) & (below == 0), 0.0, above / below)
    return ratio
