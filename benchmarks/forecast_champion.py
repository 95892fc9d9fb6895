"""The selected and calibrated forecast at each origin, from what the models had said at the origins before."""

from __future__ import annotations

import numpy as np

from benchmarks.forecast_walk import Walk
from foreshard.forecast.band import QUANTILES, Floats
from foreshard.forecast.scores import mean_pinball

PAST = 56
"""Origins whose losses count."""


def champion(walk: Walk) -> Floats:
    """Quantiles, shape (origins, series, horizon, 7), NaN at the first origin and where no model says anything.

    Only by predictions of earlier origins, and by as much of the truth as had come by then.
    """
    quantiles = np.full((*walk.truth.shape, len(QUANTILES)), np.nan)
    for turn in range(1, len(walk.origins)):
        earlier = slice(max(0, turn - PAST), turn)
        come = walk.come(earlier, turn)
        losses = np.stack(
            [mean_pinball(said[earlier].astype(float), come) for said in walk.predictions.values()]
        )
        now = np.stack([said[turn] for said in walk.predictions.values()])
        losses = np.where(np.isfinite(losses) & np.isfinite(now).all(axis=(2, 3)), losses, np.inf)
        best = losses.argmin(axis=0)
        quantiles[turn] = now[best, np.arange(len(best))]
    return quantiles
