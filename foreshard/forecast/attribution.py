"""What a shard's load is made of: each bucket's part, by what the bucket did, and the shard's own part.

CPU and I/O cannot be measured per bucket: all buckets share the server's processes. What can be counted per bucket is
its activity, of several kinds. Two steps, each a robust non-negative least squares fit:

1. one cost for each kind of activity, the same for all buckets of the shard, and a constant that is the shard's own;
2. one factor for each bucket on its work (activity times cost), pulled towards 1: a query of one bucket is not as
   dear as that of another, but buckets are busy at the same hours, and without the pull one of them would be given
   the work of all.

The pull is that of a normal prior (ridge regression: Hoerl & Kennard 1970) with the spread ``FACTOR_SPREAD``, weighed
against the noise that the fit leaves; outliers are weighted by Huber's rule (1964).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from foreshard.forecast.least_squares import Floats, LeastSquares, Mask

FACTOR_SPREAD = 0.3
"""Standard deviation that buckets' costs are expected to have around the shard's."""

COST_SPREAD = 1.0
"""The same for kinds of activity, in shares of the load: kinds that rise and fall together share it alike."""

FAULTY = 1e3
ORDINARY = 0.99
"""A value of more than ``FAULTY`` times what this share of all does not exceed is a fault of the measurement, and its
window a gap. Not the median: of a load with a batch an hour a day the busy hour is far above that, and true."""

FEWEST_WINDOWS = 12
STEADY = 0.02
"""Activity that varies less than this (standard deviation by mean) tells nothing of what it costs."""

BLOCKS = 5
"""The fit is judged on fifths of the time, each left out in turn. Whole blocks: neighbouring hours are alike."""

TRUSTED = 0.5
"""Below this R² a fit tells more about the noise than about the buckets."""

Method = Literal["buckets", "shared", "assumed"]


@dataclass(frozen=True)
class Fit:
    """How far an attribution can be trusted.

    ``method``: ``buckets`` if each bucket has a cost of its own; ``shared`` if one cost for all told windows that
    were left out better; ``assumed`` if costs could not be told and the load is divided by activity.
    ``r_squared``: share of the load's variation that is foretold in windows that were left out of the fit; below 0
    it is worse than the mean; None if there is nothing to judge by. ``explained``: share of the load that is the
    buckets'. ``note`` says what a reader must know before trusting it, empty if nothing.
    """

    method: Method
    r_squared: float | None
    explained: float
    windows: int
    note: str


@dataclass(frozen=True, eq=False)
class Attribution:
    """``cost`` of one unit of activity, shape (buckets, kinds), in the load's unit, NaN if nothing is told; its fit."""

    cost: Floats
    fit: Fit


def attribute(load: Floats, activity: npt.NDArray[np.floating]) -> Attribution:
    """Explain ``load``, shape (windows,), by ``activity``, shape (buckets, kinds, windows), of the shard's buckets.

    Windows may be of any length, and those with a gap or a fault anywhere are left out. While a bucket lay elsewhere
    its activity is 0, not a gap. Without any window left nothing is told: the costs are NaN.
    """
    buckets, kinds, _ = activity.shape
    known = _known(load, activity)
    total = load[known]
    if not known.any():
        nothing = Fit("assumed", None, 0.0, 0, "no window is known of load and buckets alike")
        return Attribution(np.full((buckets, kinds), np.nan), nothing)
    acts = np.zeros((len(total), buckets, kinds))
    if buckets:
        acts[:] = np.moveaxis(activity[:, :, known], 2, 0)
    costs, method, r_squared = (
        _fitted(total, acts) if _telling(acts) else (_assumed(total, acts), "assumed", None)
    )
    made = float(np.sum(acts.sum(axis=0) * costs))
    explained = made / float(total.sum()) if total.any() else 0.0
    note = _note(method, r_squared, len(total)) if buckets else ""
    return Attribution(costs, Fit(method, r_squared, explained, len(total), note))


def plausible(values: Floats) -> Mask:
    """Which of the values are numbers, not negative, and not absurd beside the others."""
    fine = np.isfinite(values) & (values >= 0)
    positive = values[fine & (values > 0)]
    if len(positive):
        with np.errstate(invalid="ignore"):
            fine &= values <= FAULTY * np.quantile(positive, ORDINARY, method="lower")
    return fine


def _known(total: Floats, activity: npt.NDArray[np.floating]) -> Mask:
    # A gap is not >= 0 either; and a sum that is not finite is not plausible.
    known = plausible(total)
    if len(activity):
        known &= (activity >= 0).all(axis=(0, 1))
        for kind in range(activity.shape[1]):
            known &= plausible(activity[:, kind].sum(axis=0, dtype=np.float64))
    return known


def _telling(acts: Floats) -> bool:
    """Whether activity varies, over enough windows, so that costs can be told."""
    sums = acts.sum(axis=1)
    mean = sums.mean(axis=0)
    spread = np.divide(sums.std(axis=0), mean, out=np.zeros_like(mean), where=mean > 0)
    return len(acts) >= FEWEST_WINDOWS and bool((spread > STEADY).any())


def _assumed(total: Floats, acts: Floats) -> Floats:
    """The whole load by activity, every kind counted alike."""
    mean = acts.sum(axis=1).mean(axis=0)
    active = mean > 0
    each = np.divide(total.mean() / max(active.sum(), 1), mean, out=np.zeros_like(mean), where=active)
    return np.tile(each, (acts.shape[1], 1))


def _fitted(total: Floats, acts: Floats) -> tuple[Floats, Method, float | None]:
    """Costs (buckets × kinds) in the way that foretells windows better which were left out of the fit."""
    sums = acts.sum(axis=1)
    # In shares of the load, so that kinds that differ by orders of magnitude are pulled alike.
    mean = sums.mean(axis=0)
    unit = np.divide(total.mean(), mean, out=np.zeros_like(mean), where=mean > 0)
    shared = LeastSquares.weighted(sums * unit, total, 1.0 / max(int(np.count_nonzero(mean)), 1), COST_SPREAD)
    costs = shared.solve()[1:] * unit
    factors = LeastSquares.weighted(acts @ costs, total, 1.0, FACTOR_SPREAD)
    if total.std() <= 1e-9 * total.mean():
        return np.outer(factors.solve()[1:], costs), "buckets", None
    block = np.arange(len(total)) * BLOCKS // len(total)
    by_shared, by_factors, by_mean = (np.zeros(len(total)) for _ in range(3))
    for number in range(BLOCKS):
        left_out = block == number
        again = shared.solve(~left_out)
        work = replace(factors, columns=acts @ (again[1:] * unit))
        by_shared[left_out] = shared.told(again)[left_out]
        by_factors[left_out] = work.told(work.solve(~left_out))[left_out]
        by_mean[left_out] = np.average(total[~left_out], weights=factors.weights[~left_out])
    # Outliers are judged as they are fitted: with little weight.
    shared_missed, factors_missed, mean_missed = (
        float(np.sum(factors.weights * (total - told) ** 2)) for told in (by_shared, by_factors, by_mean)
    )
    # A mean that misses nothing is possible: most windows alike, the others outliers.
    r_squared = 1.0 - min(shared_missed, factors_missed) / mean_missed if mean_missed > 0 else None
    if factors_missed <= shared_missed:
        return np.outer(factors.solve()[1:], costs), "buckets", r_squared
    return np.tile(costs, (acts.shape[1], 1)), "shared", r_squared


def _note(method: Method, r_squared: float | None, windows: int) -> str:
    if method == "assumed":
        why = f"only {windows} windows are known" if windows < FEWEST_WINDOWS else "activity is too steady"
        return f"{why} to tell costs: divided by activity"
    if r_squared is not None and r_squared < TRUSTED:
        return "activity tells little of this load's ups and downs: the parts are rough"
    return ""
