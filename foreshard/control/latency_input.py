"""Measured latencies of the fleet beside its utilisation, and the curve that they show."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np

from foreshard.control.engine import ControlDatabase
from foreshard.control.load_grid import load_grid
from foreshard.control.load_levels import FIVE_MINUTES
from foreshard.control.load_store import LoadStore
from foreshard.control.topology_store import TopologyStore
from foreshard.load.metric import additive
from foreshard.planning.latency import LatencyCurve, fit

STATEMENTS, SECONDS = "statements_per_s", "statement_seconds_per_s"
HISTORY = timedelta(days=7)
MOST_POINTS = 20_000
"""More are thinned out evenly: the curve has two numbers."""


def latency_curve(control: ControlDatabase, now: datetime) -> LatencyCurve:
    """The curve of the last week's statements, as query logs tell their number and durations; else the unfitted one.

    A point is five minutes of a shard: the mean duration of its statements by the utilisation of its busiest resource
    of those that queue, which rates and processors do and what is merely full does not.
    """
    unfitted = LatencyCurve()
    if not {STATEMENTS, SECONDS} <= set(LoadStore(control).known().metrics):
        return unfitted
    capacity = {shard.name: shard.load_capacity for shard in TopologyStore(control).shards()}
    limited = sorted({metric for of in capacity.values() for metric in of if additive(metric)})
    until = FIVE_MINUTES.start(now)
    assert FIVE_MINUTES.step is not None
    grid = load_grid(control, [], [STATEMENTS, SECONDS, *limited], until - HISTORY, until, FIVE_MINUTES.step)
    rho, latency, weight, of = [], [], [], []
    for row, shard in enumerate(
        sorted(grid.shards[STATEMENTS].keys() & grid.shards[SECONDS].keys() & capacity.keys())
    ):
        used = [
            grid.shards[metric][shard] / capacity[shard][metric]
            for metric in limited
            if metric in capacity[shard] and shard in grid.shards[metric]
        ]
        statements = grid.shards[STATEMENTS][shard]
        if not used:
            continue
        busiest = np.fmax.reduce(used)
        known = np.flatnonzero(np.isfinite(busiest) & (statements > 0))
        rho.append(busiest[known])
        latency.append(grid.shards[SECONDS][shard][known] / statements[known])
        weight.append(statements[known])
        of.append(np.full(len(known), row))
    if not rho:
        return unfitted
    every = max(1, -(-sum(map(len, rho)) // MOST_POINTS))
    utilisation, seconds, weights, shards = (
        np.concatenate(one)[::every] for one in (rho, latency, weight, of)
    )
    return fit(utilisation, seconds, weights, shards) or unfitted
