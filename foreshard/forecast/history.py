"""The past, asked in two ways: what was known at an origin, and what came after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foreshard.errors import InvalidInput
from foreshard.forecast.band import Floats
from foreshard.forecast.panel import Panel


@dataclass(frozen=True, eq=False)
class History:
    """Inputs of a model and the truth that it is judged by come from different calls, so that neither holds the
    other. An origin is a number of steps from the panel's start: the steps before it were known.
    """

    panel: Panel

    def seen(self, origin: int) -> Panel:
        """All that was known when step ``origin`` began. Raises ``InvalidInput`` (field ``end``) outside the panel."""
        return self.panel.until(origin)

    def truth(self, origin: int, horizon: int) -> Floats:
        """Steps ``origin .. origin + horizon - 1``, shape (series, horizon); NaN for gaps and behind the panel's end.

        Raises ``InvalidInput`` (field ``origin``) before the panel's start.
        """
        if origin < 0:
            raise InvalidInput("origin", f"{origin} lies before the first step")
        came = np.full((len(self.panel.keys), horizon), np.nan)
        known = self.panel.values[:, origin : origin + horizon]
        came[:, : known.shape[1]] = known
        return came

    def truths(self, origins: Sequence[int], horizon: int) -> Floats:
        """``truth`` of several origins, shape (origins, series, horizon)."""
        return np.stack([self.truth(origin, horizon) for origin in origins])
