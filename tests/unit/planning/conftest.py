"""Fleets to plan on: built by hand, or drawn at random by hypothesis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from foreshard.forecast.peak import PEAK_LEVELS
from foreshard.planning.view import NEVER, BucketsView, FleetView, ShardsView

STEPS = 12
SPREAD = np.array([0.85, 0.90, 0.95, 1.0, 1.05, 1.10, 1.15])
EVENING = np.concatenate([np.linspace(0.5, 1.0, 6), np.linspace(1.0, 0.4, 6)])
PEAK_SPREAD = np.interp(PEAK_LEVELS, [0.005, 0.5, 0.9, 0.95, 0.995], [0.85, 1.0, 1.10, 1.15, 1.25])
"""Of the window's largest load, to the median's peak."""


class Fleets:
    """Builds views at 18:10 UTC the day before Thanksgiving, with forecasts of twelve hours from 18:00."""

    now = datetime(2013, 11, 27, 18, 10, tzinfo=UTC)

    def view(
        self,
        peaks: Mapping[str, float],
        *,
        parts: Mapping[str, Sequence[float]] | None = None,
        sizes: Sequence[int] = (7_000_000,),
        present: float = 0.5,
        metrics: Mapping[str, float] | None = None,
        scale: Mapping[str, float] | None = None,
        rested_s: Mapping[str, float] | None = None,
        came_from: Mapping[str, str] | None = None,
        spread: np.ndarray = SPREAD,
        peak_spread: np.ndarray = PEAK_SPREAD,
        **more: object,
    ) -> FleetView:
        """``peaks``: each shard's 0.9 quantile at its peak, in units of capacity.

        ``parts``: activity of the buckets of a shard (eight equal ones by default; an idle shard has none).
        ``metrics``: resources and how much of the peak each carries; ``scale``: shard -> its capacity over the others'.
        """
        carried = metrics or {"cpu_cores": 0.3, "queries_per_s": 1.0}
        unit = np.array([{"cpu_cores": 8.0, "queries_per_s": 100.0}.get(metric, 1e8) for metric in carried])
        share = np.array(list(carried.values()))
        names = sorted(peaks)
        capacity = np.outer([(scale or {}).get(name, 1.0) for name in names], unit)
        at_peak = np.array([peaks[name] for name in names])[:, None] * share * capacity
        median = at_peak[..., None] * EVENING / 1.10
        mine = {name: (parts or {}).get(name, [1.0] * 8 if peaks[name] > 0 else []) for name in names}
        rows = sorted(
            (f"{name}-b{number:02}", at, part / max(sum(mine[name]), 1e-12))
            for at, name in enumerate(names)
            for number, part in enumerate(mine[name])
        )
        shard = np.array([at for _, at, _ in rows], np.intp)
        load = np.array([median[at] * part for _, at, part in rows]).reshape(len(rows), len(carried), STEPS)
        lies = {name: at for at, name in enumerate(names)}
        return FleetView(
            self.now,
            self.now.replace(minute=0),
            timedelta(hours=1),
            tuple(carried),
            ShardsView(
                tuple(names),
                capacity,
                present * at_peak,
                median[..., None] * spread,
                median.max(axis=2)[..., None] * peak_spread,
            ),
            BucketsView(
                tuple(name for name, _, _ in rows),
                shard,
                np.array([sizes[at % len(sizes)] for at in range(len(rows))], np.int64),
                load,
                load[:, list(carried).index("queries_per_s")] if "queries_per_s" in carried else load[:, 0],
                np.array([(rested_s or {}).get(name, NEVER) for name, _, _ in rows]),
                np.array(
                    [
                        lies[(came_from or {})[name]] if name in (came_from or {}) else -1
                        for name, _, _ in rows
                    ],
                    np.intp,
                ),
            ),
            **more,  # type: ignore[arg-type]
        )


@pytest.fixture(scope="session")
def build() -> Callable[..., FleetView]:
    """See ``Fleets.view``."""
    return Fleets().view
