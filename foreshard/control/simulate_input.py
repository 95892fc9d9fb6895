"""The fleet's own history as a trace to replay, and the fleet that it is replayed on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from foreshard.control.engine import ControlDatabase
from foreshard.control.forecast_input import UTC, fleet_load
from foreshard.control.load_store import LoadStore
from foreshard.control.topology_store import TopologyStore
from foreshard.errors import NotFound
from foreshard.planning.view import Floats
from foreshard.simulate.fleet import Fleet
from foreshard.simulate.trace import Trace


def simulate_input(
    control: ControlDatabase, now: datetime, history: timedelta, step: timedelta, timezone: ZoneInfo = UTC
) -> tuple[Trace, Fleet]:
    """What every bucket did, in the metrics that every shard has a capacity of, and the shards with their own parts.

    Buckets begin where they lie now: what is asked is what a policy would have done with this fleet. A bucket that was
    not there yet was idle; gaps are filled by straight lines.

    Raises ``NotFound``: no load of any bucket, or no capacity that all shards have in a metric that can be rebuilt.
    """
    load = fleet_load(control, now, history, step=step, timezone=timezone)
    topology = TopologyStore(control)
    shards = sorted(topology.shards(), key=lambda one: one.name)
    kind = load.activity.kinds[0] if load.activity.buckets else ""
    metrics = [
        metric
        for metric in (kind, *load.apportioned)
        if kind and shards and all(metric in shard.load_capacity for shard in shards)
    ]
    if not metrics:
        raise NotFound(
            "There is no load of buckets in a metric that every shard has a capacity of.",
            remedy="Run the collect flow or import a history; or replay a file with --traces.",
        )
    placement = topology.placement()
    known = {name: row for row, name in enumerate(load.activity.buckets)}
    names = tuple(sorted(placement.of))
    rows = np.array([known.get(name, -1) for name in names], np.intp)
    activity = _filled(load.activity.everywhere[rows])
    activity[rows < 0] = 0.0
    of_metrics = []
    for metric in metrics:
        if metric == kind:
            of_metrics.append(activity[:, 0])
        else:
            cost = np.where((rows >= 0)[:, None], load.apportioned[metric].cost[rows], 0.0)
            of_metrics.append(np.einsum("bkt,bk->bt", activity, cost))
    sizes = LoadStore(control).sizes()
    trace = Trace(
        names,
        tuple(metrics),
        np.maximum(np.stack(of_metrics, axis=1), 0.0),
        activity[:, 0],
        np.array([sizes.get(name, 0) for name in names], np.int64),
        load.starts_at,
        step,
        load.events,
        timezone,
    )
    at = {shard.name: row for row, shard in enumerate(shards)}
    own = [
        [
            _own(load.apportioned[metric].own if metric != kind else {}, shard.name, trace.steps)
            for metric in metrics
        ]
        for shard in shards
    ]
    fleet = Fleet(
        "fleet",
        tuple(at),
        np.array([[shard.load_capacity[metric] for metric in metrics] for shard in shards], float),
        np.array([at[placement.of[name]] for name in names], np.intp),
        np.array(own),
    )
    return trace, fleet


def _own(of: Mapping[str, Floats], shard: str, steps: int) -> Floats:
    """A part that lowers the shard's load is left out: loads are not below zero."""
    found = of.get(shard)
    return np.zeros(steps) if found is None else np.maximum(_filled(np.asarray(found, float)), 0.0)


def _filled(values: Floats) -> Floats:
    """Gaps along the last axis by straight lines; a row that nothing is known of is 0."""
    found = np.array(values, float)
    steps = np.arange(found.shape[-1])
    for row in found.reshape(-1, found.shape[-1]):
        known = np.isfinite(row)
        row[:] = np.interp(steps, steps[known], row[known]) if known.any() else 0.0
    return found
