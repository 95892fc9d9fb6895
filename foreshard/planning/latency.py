"""Latency from utilisation by a queueing curve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foreshard.forecast.band import Floats

HIGHEST_UTILISATION = 0.99
"""A queue at or above 1 has no steady state; it is shown as one at 0.99, a hundredfold service time."""


def stretch(utilisation: Floats) -> Floats:
    """How many times its bare service time a request takes: ``1 / (1 - rho)``, elementwise.

    Mean response time of the M/G/1 queue under processor sharing is ``S / (1 - rho)`` whatever the
    distribution of ``S`` (Kleinrock, Queueing Systems II, 4.4).
    """
    stretched: Floats = 1.0 / (1.0 - np.clip(utilisation, 0.0, HIGHEST_UTILISATION))
    return stretched


@dataclass(frozen=True)
class LatencyCurve:
    """Mean latency of a request by its shard's utilisation: ``service_s / (1 - rho)``.

    ``service_s``: bare service time, seconds; None where nothing was measured: latencies are then in service times.
    """

    service_s: float | None = None
