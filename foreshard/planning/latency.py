"""Latency from utilisation by a queueing curve, fitted to what was measured where there is any."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foreshard.forecast.band import Floats

HIGHEST_UTILISATION = 0.99
"""A queue at or above 1 has no steady state; it is shown as one at 0.99, a hundredfold service time."""

LEAST_POINTS = 48
"""Fewer say nothing: four hours of five-minute means."""

LEAST_SPREAD = 0.1
"""Of utilisation, between the 5 % and 95 % quantiles; without it nothing is seen of the curve."""

FACTORS = (0.1, 2.0)
"""Latency that rises less than at the first of them is not seen to follow utilisation."""

_SCALE = 0.1
"""Of relative misfits: beyond some 10 % they count by their size, no longer by its square."""

MOST_WEIGHT = 10.0
"""Times the mean: one busy hour does not speak for all."""


def stretch(utilisation: Floats) -> Floats:
    """How many times its bare service time a request takes: ``1 / (1 - rho)``, elementwise.

    Mean response time of the M/G/1 queue under processor sharing is ``S / (1 - rho)`` whatever the
    distribution of ``S`` (Kleinrock, Queueing Systems II, 4.4).
    """
    stretched: Floats = 1.0 / (1.0 - np.clip(utilisation, 0.0, HIGHEST_UTILISATION))
    return stretched


@dataclass(frozen=True)
class LatencyCurve:
    """Mean latency of a request by its shard's utilisation: ``service_s / (1 - factor * rho)``.

    ``service_s``: bare service time, seconds; None where nothing was measured: latencies are then in service times.
    ``factor``: how much of the utilisation queues. Several processors serve side by side, which takes from it; a
    resource that is full before its stated capacity adds to it. ``points``: how many measurements it was fitted to.
    """

    service_s: float | None = None
    factor: float = 1.0
    points: int = 0

    def latency(self, utilisation: Floats) -> Floats:
        """Seconds, or service times where nothing was measured, elementwise."""
        service = 1.0 if self.service_s is None else self.service_s
        found: Floats = service * stretch(self.factor * np.asarray(utilisation, float))
        return found


def fit(
    utilisation: Floats,
    latency_s: Floats,
    weights: Floats | None = None,
    of: npt.NDArray[np.integer] | None = None,
) -> LatencyCurve | None:
    """The curve of N measured mean latencies, or None if they do not show one.

    ``weights``: how much each counts, the number of requests in it for one. ``of``: which shard each is of, since
    shards may have other requests, and so other service times; the curve has that of the typical one. Misfits are of
    the latency's logarithm, so that fast and slow shards count alike, under the loss ``2 (sqrt(1 + r^2) - 1)``, which
    outliers do not bend (Charbonnier et al. 1997; "soft_l1" in SciPy).

    No curve is shown by fewer than `LEAST_POINTS`, by a utilisation that varies by less than `LEAST_SPREAD` on the
    shards, and by a latency that does not rise with it.
    """
    rho, seconds = np.asarray(utilisation, float), np.asarray(latency_s, float)
    weight = np.ones(len(rho)) if weights is None else np.asarray(weights, float)
    shard = np.zeros(len(rho), np.intp) if of is None else np.asarray(of)
    good = (
        np.isfinite(rho)
        & np.isfinite(seconds)
        & np.isfinite(weight)
        & (rho >= 0)
        & (seconds > 0)
        & (weight > 0)
    )
    rho, seconds, weight, shard = rho[good], seconds[good], weight[good], shard[good]
    if len(rho) < LEAST_POINTS:
        return None
    groups = _Groups(shard)
    low, high = np.quantile(rho - groups.medians(rho), (0.05, 0.95))
    lowest, highest = FACTORS[0], min(FACTORS[1], HIGHEST_UTILISATION / float(np.quantile(rho, 0.99)))
    if high - low < LEAST_SPREAD or highest <= lowest:
        return None
    # Here: whoever only reads a plan does without a second of SciPy.
    from scipy.optimize import minimize_scalar

    weight = np.minimum(weight / weight.mean(), MOST_WEIGHT)
    logs = np.log(seconds)

    def bare(factor: float) -> Floats:
        found: Floats = logs - np.log(stretch(factor * rho))
        return found

    def loss(factor: float) -> float:
        misfit = (bare(factor) - groups.medians(bare(factor))) / _SCALE
        return float(np.sum(weight * (np.sqrt(1.0 + misfit**2) - 1.0)))

    factor = float(minimize_scalar(loss, bounds=(0.0, highest), method="bounded", options={"xatol": 1e-3}).x)
    if factor < lowest:
        return None
    return LatencyCurve(float(np.exp(_weighted_median(bare(factor), weight))), factor, len(rho))


class _Groups:
    """Which values belong together."""

    def __init__(self, of: npt.NDArray[np.integer]) -> None:
        self._group = np.unique(of, return_inverse=True)[1]
        order = np.argsort(self._group, kind="stable")
        self._rows = np.split(order, np.flatnonzero(np.diff(self._group[order])) + 1)

    def medians(self, values: Floats) -> Floats:
        """For each value the median of its group."""
        found: Floats = np.array([np.median(values[rows]) for rows in self._rows])[self._group]
        return found


def _weighted_median(values: Floats, weights: Floats) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])
