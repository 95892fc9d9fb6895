"""A forecast run as arrays, as the planner needs it: hundreds of thousands of series without an object for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from foreshard.control import float_arrays
from foreshard.control.engine import ControlDatabase
from foreshard.control.float_arrays import Floats32
from foreshard.control.load_sql import transaction
from foreshard.forecast.band import Floats, quantile_column
from foreshard.forecast.peak import HALF, HIGH, spread

_SHARDS = b"""
SELECT shard, metric, starts_at, quantiles, peak FROM forecast_bands WHERE run_id = %s AND shard <> ''
ORDER BY shard, metric
"""
# An array's slice is read without the rest of it being sent; bounds of the first dimension left out mean all.
_BUCKETS = b"""
SELECT bucket, quantiles[:][%(median)s:%(median)s], peak[%(half)s], peak[%(high)s] FROM forecast_bands
WHERE run_id = %(run)s AND shard = '' AND metric = %(metric)s AND starts_at = %(starts_at)s
    AND array_length(quantiles, 1) = %(steps)s
"""


@dataclass(frozen=True, eq=False)
class ForecastArrays:
    """One run. T steps from ``starts_at`` on.

    ``bands``: by shard and metric, shape (T, 7); ``peaks``: the same, shape (17,). ``buckets``: row of each bucket in
    ``medians``, shape (B, T), and of its peak in ``spreads``, (B,), of the one metric that was asked for. Series that
    begin at another time are left out.
    """

    starts_at: datetime
    bands: Mapping[tuple[str, str], Floats32]
    peaks: Mapping[tuple[str, str], Floats32]
    buckets: Mapping[str, int]
    medians: Floats32
    spreads: Floats


def forecast_arrays(control: ControlDatabase, run_id: int, metric: str) -> ForecastArrays | None:
    """Every shard's bands in all metrics, every bucket's median in ``metric``; None if no shard's bands are there."""
    with transaction(control) as conn, conn.cursor(binary=True) as cursor:
        float_arrays.use(cursor)
        shards = cursor.execute(_SHARDS, (run_id,)).fetchall()
        if not shards:
            return None
        starts_at, steps = min((starts_at, -len(quantiles)) for _, _, starts_at, quantiles, _ in shards)
        steps = -steps
        here = [row for row in shards if row[2] == starts_at and len(row[3]) == steps]
        asked = {
            "run": run_id, "metric": metric, "starts_at": starts_at, "steps": steps,
            "median": quantile_column(0.5) + 1, "half": HALF + 1, "high": HIGH + 1,
        }  # fmt: skip
        rows = cursor.execute(_BUCKETS, asked).fetchall()
    medians = np.empty((len(rows), steps), np.float32)
    peaks = np.empty((len(rows), 2))
    for at, (_, median, *peak) in enumerate(rows):
        medians[at], peaks[at] = median[:, 0], peak
    return ForecastArrays(
        starts_at,
        {(shard, name): quantiles for shard, name, _, quantiles, _ in here},
        {(shard, name): peak for shard, name, _, _, peak in here},
        {name: at for at, (name, *_) in enumerate(rows)},
        medians,
        spread(peaks[:, 0], peaks[:, 1]),
    )
