"""What models are shown of a panel: without faults, without declared effects, under the present regime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from foreshard.forecast.calendar import effects
from foreshard.forecast.cleaning import clean
from foreshard.forecast.panel import Panel, Values
from foreshard.forecast.regime import steady
from foreshard.forecast.series import SeriesKey


@dataclass(frozen=True, eq=False)
class Prepared:
    """``panel``: what models learn from. ``measured``: the same before effects were taken out and regimes evened.

    ``ahead``: the declared factors on the steps to come, shape (series, horizon).
    """

    panel: Panel
    measured: Panel
    ahead: Values
    notes: Mapping[SeriesKey, tuple[str, ...]]


def prepared(panel: Panel, horizon: int) -> Prepared:
    """Cleaned, divided by what declared events did, and steadied; in the notes, what was done with each series.

    An event ahead then raises the forecast, and one under way is not counted twice.
    """
    cleaned = clean(panel)
    factors = effects(panel.events, panel, 0, panel.steps + horizon)
    ordinary = cleaned.panel.with_values(
        (cleaned.panel.values / factors[:, : panel.steps]).astype(np.float32, copy=False)
    )
    steadied = steady(ordinary)
    notes = {
        key: (*cleaned.notes.get(key, ()), *steadied.notes.get(key, ()))
        for key in (*cleaned.notes, *steadied.notes)
    }
    return Prepared(steadied.panel, cleaned.panel, factors[:, panel.steps :], notes)
