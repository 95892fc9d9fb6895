"""The selected and calibrated forecast at each judged origin, from what the models had said at the origins before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.forecast_walk import Walk
from foreshard.forecast.band import QUANTILES, Floats
from foreshard.forecast.scores import weighted_pinball


@dataclass(frozen=True, eq=False)
class Chosen:
    """``quantiles``: shape (origins, series, horizon, 7), NaN before the judged window."""

    quantiles: Floats


def champion(walk: Walk) -> Chosen:
    """Of each origin and series, only by predictions of earlier origins and by truth that had come by then."""
    quantiles = np.full((*walk.truth.shape, len(QUANTILES)), np.nan)
    ahead = np.arange(walk.horizon)
    for turn, origin in enumerate(walk.origins.tolist()):
        if not walk.judged[turn].any():
            continue
        earlier = slice(max(0, turn - 24), turn)
        come = walk.origins[earlier, None, None] + ahead < origin
        truth = np.where(come, walk.truth[earlier], np.nan)
        names = list(walk.predictions)
        losses = np.stack(
            [weighted_pinball(walk.predictions[name][earlier].astype(float), truth) for name in names]
        )
        now = np.stack([walk.predictions[name][turn] for name in names])
        losses = np.where(np.isfinite(losses) & np.isfinite(now).all(axis=(2, 3)), losses, np.inf)
        best = losses.argmin(axis=0)
        quantiles[turn] = now[best, np.arange(len(best))]
    return Chosen(quantiles)


def exceedance(quantiles: Floats, threshold: Floats) -> Floats:
    """P(some step of the horizon exceeds ``threshold``), read off bands; (origins, series, horizon, 7) -> (origins,
    series).
    """
    levels = np.asarray(QUANTILES)
    limit = threshold[..., None]
    above = np.ones(quantiles.shape[:-1])
    for column in range(len(levels)):
        above = np.where(limit >= quantiles[..., column], 1.0 - levels[column], above)
    for column in range(len(levels) - 1):
        low, high = quantiles[..., column], quantiles[..., column + 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            share = (limit - low) / (high - low)
        between = (limit >= low) & (limit < high)
        above = np.where(between, 1.0 - levels[column] - share * (levels[column + 1] - levels[column]), above)
    above = np.where(np.isfinite(quantiles).all(axis=-1) & np.isfinite(limit), above, np.nan)
    probability: Floats = above.max(axis=-1)
    return probability
