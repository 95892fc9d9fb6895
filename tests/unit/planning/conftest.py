"""Fleets to plan on: built by hand, or drawn at random by hypothesis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from foreshard.forecast.band import Band
from foreshard.planning.view import BucketView, FleetView, ShardView

STEPS = 12
SPREAD = np.array([0.85, 0.90, 0.95, 1.0, 1.05, 1.10, 1.15])
EVENING = np.concatenate([np.linspace(0.5, 1.0, 6), np.linspace(1.0, 0.4, 6)])


class Fleets:
    """Builds views at 18:00 UTC the day before Thanksgiving, with forecasts of twelve hours."""

    now = datetime(2013, 11, 27, 18, 10, tzinfo=UTC)

    def band(self, median: Sequence[float] | np.ndarray) -> Band:
        ts = pd.date_range(pd.Timestamp(self.now).floor("h"), periods=len(median), freq="h")
        return Band(ts, np.outer(np.asarray(median, float), SPREAD))

    def view(
        self,
        peaks: Mapping[str, float],
        *,
        parts: Mapping[str, Sequence[float]] | None = None,
        sizes: Sequence[int] = (7_000_000,),
        present: float = 0.5,
        metrics: Mapping[str, float] | None = None,
        **more: object,
    ) -> FleetView:
        """``peaks``: each shard's 0.9 quantile at its peak, in units of capacity.

        ``parts``: activity of the buckets of a shard (eight equal ones by default; an idle shard has none).
        ``metrics``: resources and how much of the peak each carries.
        """
        carried = metrics or {"queries_per_s": 1.0, "cpu_cores": 0.3}
        capacity = dict(zip(carried, (100.0, 8.0, 1e8), strict=False))
        shards, buckets = [], []
        for shard, peak in sorted(peaks.items()):
            at_peak = {metric: peak * share * capacity[metric] for metric, share in carried.items()}
            bands = {metric: self.band(EVENING * load / 1.10) for metric, load in at_peak.items()}
            current = {metric: present * load for metric, load in at_peak.items()}
            shards.append(ShardView(shard, capacity, current, bands))
            mine = (parts or {}).get(shard, [1.0] * 8 if peak > 0 else [])
            for number, part in enumerate(mine):
                load = EVENING * peak * 100.0 * part / max(sum(mine), 1e-12)
                size = sizes[number % len(sizes)]
                buckets.append(BucketView(f"{shard}-b{number}", shard, size, {}, self.band(load)))
        return FleetView(self.now, tuple(shards), tuple(buckets), **more)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def build() -> Callable[..., FleetView]:
    """See ``Fleets.view``."""
    return Fleets().view
