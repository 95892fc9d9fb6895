"""What a fleet lacks when no placement of its buckets keeps it under its ceilings."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from foreshard.planning.fleet import Fleet
from foreshard.planning.plan import Shortage


def find_shortage(fleet: Fleet, lacking: Sequence[int]) -> Shortage | None:
    """How many more shards of the fleet's median capacity would take what stands above the ceilings, and when.

    ``fleet`` has all that is planned done; ``lacking``: the rows of the shards that could not be relieved, or emptied.
    None if nothing is lacking, or only a rule of the policy is in the way.
    """
    if not lacking:
        return None
    view, loads, policy = fleet.view, fleet.loads, fleet.policy
    rows = sorted(set(lacking))
    above = np.zeros((len(view.metrics), view.steps))
    first = view.steps - 1
    for row in rows:
        path = loads.path(row)
        ceiling = 0.0 if fleet.draining[row] else policy.target_ceiling
        begin = view.steps - 1
        above += np.maximum(path - ceiling, 0.0) * loads.capacity[row][:, None]
        for bound in (ceiling, 1.0):  # where capacity is exceeded, from when on; else where the ceiling is
            over = np.flatnonzero((path > bound).any(axis=0))
            begin = int(over[0]) if len(over) else begin
        first = min(first, begin)
    capacity = np.median(loads.capacity, axis=0)
    usable = np.minimum(fleet.limit, policy.target_ceiling) * capacity
    missing = float((above / usable[:, None]).max())
    if missing <= 0:
        return None
    shards = max(1, math.ceil(missing))
    amounts = {metric: float(value) for metric, value in zip(view.metrics, capacity, strict=True)}
    whose = ", ".join(fleet.name(row) for row in rows[:5]) + (
        f" and {len(rows) - 5} more" if len(rows) > 5 else ""
    )
    listed = ", ".join(f"{value:,.4g} {metric}" for metric, value in amounts.items())
    text = (
        f"There is no room for what {whose} cannot carry: {shards} more shard{'s' if shards > 1 else ''} of {listed} "
        f"would take it, by {view.at(first):%Y-%m-%d %H:%M} UTC.{_too_large(fleet, rows)}"
    )
    return Shortage(shards, amounts, view.at(first), text)


def _too_large(fleet: Fleet, rows: Sequence[int]) -> str:
    """Buckets that no shard of that size can carry: another shard would not help."""
    giants = []
    for row in rows:
        here = fleet.loads.on(row)
        peaks = fleet.loads.of(here, row).max(axis=(1, 2)) if len(here) else np.zeros(0)
        giants += [fleet.names(here[[at]])[0] for at in np.flatnonzero(peaks > fleet.policy.target_ceiling)]
    if not giants:
        return ""
    return f" {', '.join(giants)} alone would fill one: only a larger shard, or splitting, helps there."
