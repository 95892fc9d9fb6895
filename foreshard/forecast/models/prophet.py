"""Prophet: trend, daily and weekly curves of the wall clock, fitted by cmdstan (inside Prophet's wheel)."""

from __future__ import annotations

import logging
import tempfile
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

# Prophet complains about a missing plotting library while it is imported.
logging.getLogger("prophet.plot").setLevel(logging.CRITICAL)

import cmdstanpy  # noqa: E402
from prophet import Prophet  # noqa: E402

from foreshard.forecast.band import QUANTILES, Floats  # noqa: E402
from foreshard.forecast.models.model import from_root  # noqa: E402

# Two lines for every fit, and an error when L-BFGS gives up, which is no news. By its level and not disabled: whoever
# configures logging later, as Prefect does, enables all loggers again.
cmdstanpy.utils.get_logger().setLevel(logging.CRITICAL)
logging.getLogger("prophet").setLevel(logging.ERROR)

SAMPLES = 500
DAILY_ORDER = 6
WEEKLY_ORDER = 4
CHANGEPOINTS = 5  # enough for six weeks; Prophet's 25 slow the fit and follow noise

LOOSE = 1e10
"""Relative tolerance of the objective, in machine epsilons. With Stan's default, a million times tighter,
fits took twice the time and some line searches failed, for the same pinball loss.
"""


class ProphetModel:
    """Prophet on the root of load, in local time."""

    name = "prophet"

    def fit_predict(
        self, history: pd.Series[float], steps: pd.DatetimeIndex, timezone: ZoneInfo, seed: int
    ) -> Floats:
        """See ``Model.fit_predict``. Raises whatever Prophet or cmdstan raise when a fit fails."""
        known = history.dropna()
        local = _wall_clock(pd.DatetimeIndex(known.index), timezone)
        model = _fit(pd.DataFrame({"ds": local, "y": np.sqrt(known.to_numpy(float))}))
        # Prophet sorts what it predicts; at the end of summer time an hour comes twice.
        wanted, back = np.unique(_wall_clock(steps, timezone).to_numpy(), return_inverse=True)
        predicted = model.predict(pd.DataFrame({"ds": wanted}))["yhat"].to_numpy(float)
        samples = predicted + _sample_deviations(model, pd.DatetimeIndex(wanted), np.random.default_rng(seed))
        return from_root(np.quantile(samples, QUANTILES, axis=0).T[back])


def _fit(frame: pd.DataFrame) -> Prophet:
    """Prophet fitted to ``ds`` and ``y`` by L-BFGS or, if that gives up, by Newton's slower method."""
    try:
        return _fit_by(frame, tol_rel_obj=LOOSE)
    except RuntimeError:
        return _fit_by(frame, algorithm="Newton")


def _fit_by(frame: pd.DataFrame, **optimiser: Any) -> Prophet:
    model = Prophet(
        growth="linear",
        n_changepoints=CHANGEPOINTS,
        yearly_seasonality=False,
        weekly_seasonality=WEEKLY_ORDER,
        daily_seasonality=DAILY_ORDER,
        seasonality_mode="additive",  # on the root scale, see models.model
        uncertainty_samples=0,  # sampled below
        stan_backend="CMDSTANPY",
    )
    # Prophet's own fallback would hand L-BFGS's tolerance to Newton's method, which refuses it.
    assert model.stan_backend is not None  # it has been named
    model.stan_backend.set_options(newton_fallback=False)
    with tempfile.TemporaryDirectory(prefix="foreshard-fit-") as scratch:
        model.fit(frame, output_dir=scratch, **optimiser)
    return model


def _wall_clock(ts: pd.DatetimeIndex, timezone: ZoneInfo) -> pd.DatetimeIndex:
    return ts.tz_convert(timezone).tz_localize(None)


def _sample_deviations(model: Prophet, steps: pd.DatetimeIndex, rng: np.random.Generator) -> Floats:
    """Draws of (future changes of trend + noise), shape (samples, steps), on the scale of the fitted values.

    The distribution is Prophet's: after the history, changes of slope come as a Poisson process at the rate
    of the fitted changepoints, Laplace-distributed with their mean size; noise is Gaussian. Prophet's own
    sampler draws from numpy's global generator, which threads share, and so could not be repeated.
    """
    delta = np.asarray(model.params["delta"], float).ravel()
    noise = float(np.asarray(model.params["sigma_obs"]).ravel()[0])
    assert model.start is not None  # it is fitted
    assert model.t_scale is not None
    assert model.y_scale is not None
    time = np.asarray((steps - model.start) / model.t_scale, float)  # history is 0..1
    deviations = rng.normal(0.0, noise, (SAMPLES, len(steps)))
    ahead = max(time[-1] - 1.0, 0.0)
    counts = rng.poisson(len(delta) * ahead, SAMPLES)
    for sample in np.flatnonzero(counts):
        at = 1.0 + rng.uniform(0.0, ahead, counts[sample])
        change = rng.laplace(0.0, np.abs(delta).mean() + 1e-8, counts[sample])
        deviations[sample] += (np.maximum(time[:, None] - at, 0.0) * change).sum(axis=1)
    scaled: Floats = deviations * model.y_scale
    return scaled
