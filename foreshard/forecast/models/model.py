"""What a forecasting model is: it is fitted to a panel and predicts quantiles, of that panel or of a later one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from foreshard.forecast.band import Floats
from foreshard.forecast.panel import Panel
from foreshard.forecast.series import SeriesKey


class Fitted(Protocol):
    """A model that has learnt."""

    @property
    def refused(self) -> Mapping[SeriesKey, str]:
        """Series that it could not learn, and why, in words; their predictions are NaN."""
        ...

    def predict(self, panel: Panel, horizon: int) -> Floats:
        """Quantiles, shape (series, horizon, 7), of the ``horizon`` steps from ``panel.ends_at``.

        ``panel`` ends where the one it was fitted to ends, or later, on the same grid; it sees nothing behind its
        end. A local model knows the series it was fitted to, a global model any. Not below zero, not crossing; NaN
        for a series that it refuses.
        """
        ...


class Model(Protocol):
    """Learns from the past of many series: each by itself (a local model), or all together (a global one)."""

    @property
    def name(self) -> str:
        """Stored with every forecast."""
        ...

    def fit(self, panel: Panel, horizon: int, seed: int) -> Fitted:
        """Learn to predict up to ``horizon`` steps. The same ``seed`` gives the same answer.

        What goes wrong with one series is in ``Fitted.refused`` and does not fail the others.
        """
        ...
