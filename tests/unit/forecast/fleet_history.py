"""Histories of made-up fleets, as the store would give them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from foreshard.forecast.activity import Activity, Counted, Counts
from foreshard.forecast.apportionment import apportion
from foreshard.forecast.rebuild import FleetLoad
from foreshard.topology.placement import Placement

Floats = npt.NDArray[np.float64]

START = datetime(2026, 1, 5, tzinfo=UTC)
Q, R = "queries_per_s", "rows_read_per_s"
CPU, MEMORY = "cpu_cores", "memory_bytes"


def counted(of: Mapping[str, Mapping[str, Mapping[str, Floats]]]) -> Counted:
    """From kind -> shard -> bucket -> values."""
    return {
        kind: {
            shard: Counts(tuple(buckets), np.stack(list(buckets.values())).astype(np.float32))
            for shard, buckets in shards.items()
        }
        for kind, shards in of.items()
    }


def fleet_load(
    loads: Mapping[str, Floats],
    activity: Activity,
    measured: Mapping[str, Mapping[str, Floats]] | None = None,
) -> FleetLoad:
    """Hourly, with ``loads`` as the shards' CPU."""
    windows = next((len(one) for one in loads.values()), activity.everywhere.shape[2])
    apportioned = {CPU: apportion(CPU, loads, activity)}
    return FleetLoad(
        activity, apportioned, measured or {}, START, timedelta(hours=1), windows, ZoneInfo("UTC")
    )


def history(load: FleetLoad, shard: str, placement: Placement, metric: str = CPU) -> Floats:
    """Of one shard."""
    return load.shard_panel(placement, [shard], [metric]).values[0].astype(float)


def during(values: Floats, first: int, until: int) -> Floats:
    """Gaps before and after."""
    found = np.full(len(values), np.nan)
    found[first:until] = values[first:until]
    return found
