"""Fleets drawn by hypothesis, and what is to be checked of their plans, reckoned anew from the view alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from foreshard.forecast.peak import PEAK_LEVELS
from foreshard.planning.plan import MigrationPlan
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.view import FleetView, Floats

NEARLY = 1e-6

peaks = st.fixed_dictionaries(
    {"shard-1": st.floats(1.0, 1.6), "shard-2": st.floats(0.0, 0.6)},
    optional={
        f"shard-{n}": st.one_of(st.just(0.0), st.floats(0.05, 0.9), st.floats(1.0, 1.6)) for n in (3, 4, 5)
    },
)
activities = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=12)
sizes = st.lists(st.integers(0, 10**9), min_size=1, max_size=10)
policies = st.builds(
    DecisionPolicy,
    policy=st.sampled_from(["probabilistic", "threshold"]),
    planner=st.sampled_from(["greedy", "auto"]),
    relief_probability=st.sampled_from([0.01, 0.05, 0.2]),
    target_ceiling=st.sampled_from([0.75, 0.85, 0.95]),
    balance=st.booleans(),
)


@st.composite
def drawn(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments of ``build`` for any fleet."""
    chosen = draw(peaks)
    return {
        "peaks": chosen,
        "parts": {shard: draw(activities) for shard, peak in chosen.items() if peak > 0},
        "sizes": draw(sizes),
        "present": draw(st.floats(0.0, 1.0)),
        "scale": {shard: draw(st.sampled_from([1.0, 2.0])) for shard in chosen},
    }


def loads_at(view: FleetView, policy: DecisionPolicy, level: float, moves: Sequence[MigrationPlan]) -> Floats:
    """Every shard's load (S, R, T), shares of capacity, where every window's largest load is at ``level`` of it.

    Buckets have moved: each takes its part of the shard it came from along.
    """
    shards, buckets = view.shards, view.buckets
    path = shards.at(policy.predicted_quantile)
    if policy.policy == "probabilistic":
        highest = path.max(axis=2)
        peak = np.array(
            [[np.interp(level, PEAK_LEVELS, one) for one in of] for of in shards.peaks]
        )  # at most the outermost
        path = path * np.divide(peak, highest, out=np.zeros_like(peak), where=highest > 0)[..., None]
    own = path.copy()
    lies = {name: int(row) for name, row in zip(buckets.names, buckets.shard, strict=True)}
    rows = {name: row for row, name in enumerate(buckets.names)}
    for plan in moves:
        for name in plan.buckets:
            home, row = int(buckets.shard[rows[name]]), rows[name]
            here = shards.at(0.5)[home]
            part = np.divide(buckets.load[row], here, out=np.zeros_like(here), where=here > 0)
            assert lies[name] == shards.names.index(plan.source)
            own[lies[name]] -= part * path[home]
            lies[name] = shards.names.index(plan.target)
            own[lies[name]] += part * path[home]
    found: Floats = np.maximum(own, 0.0) / shards.capacity[..., None]
    return found


def planned_level(policy: DecisionPolicy, strained: float | None = None) -> float:
    """The level that plans are made by."""
    return 1.0 - (policy.relief_probability if strained is None else strained)
