"""Predicted loads as arrays, in units of capacity, and what moving a bucket changes in them.

Arrays have shape (resources, steps); resources are those that every shard has a capacity for, by name.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foreshard.errors import InvalidInput
from foreshard.forecast.band import Floats
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.view import FleetView


@dataclass(frozen=True, eq=False)
class FleetLoads:
    """The policy's quantile of every shard's load, and each bucket's part of it, in the metrics' own units.

    A bucket's part of each resource of its shard is its part of the shard's activity at that step: the median
    of its queries/s over the sum of its neighbours'. The parts of a shard add up to the shard.
    """

    metrics: tuple[str, ...]
    capacity: dict[str, Floats]  # shard -> (resources, 1)
    shard: dict[str, Floats]
    bucket: dict[str, Floats]
    draining: frozenset[str] = frozenset()

    def utilisation(self, shard: str, taken: Floats, given: Floats) -> Floats:
        """The shard's load in units of its capacity, after ``taken`` left it and ``given`` came."""
        after: Floats = (np.maximum(self.shard[shard] - taken, 0.0) + given) / self.capacity[shard]
        return after

    @property
    def nothing(self) -> Floats:
        """No load."""
        return np.zeros_like(next(iter(self.shard.values())))

    def total(self, buckets: tuple[str, ...]) -> Floats:
        """The buckets' load together."""
        return sum((self.bucket[name] for name in buckets), start=self.nothing)

    def fair_share(self) -> Floats:
        """Peak utilisation of each resource if load were spread in proportion to capacity, shape
        (resources,). What is being drained will have no part in it.
        """
        load = sum(self.shard.values(), start=self.nothing)
        staying = [self.capacity[shard] for shard in self.capacity if shard not in self.draining]
        capacity = sum(staying or self.capacity.values(), start=np.zeros((len(self.metrics), 1)))
        share: Floats = (load / capacity).max(axis=1)
        return share


def fleet_loads(view: FleetView, policy: DecisionPolicy) -> FleetLoads:
    """Raises ``InvalidInput`` (field ``capacity``) unless all shards have the same resources."""
    shards = sorted(view.shards, key=lambda shard: shard.name)  # sums must not depend on the order given
    metrics = tuple(sorted(shards[0].capacity))
    for shard in shards:
        if tuple(sorted(shard.capacity)) != metrics:
            raise InvalidInput("capacity", f"shard {shard.name} does not have the resources of the others")
    loads = {
        shard.name: np.array([shard.bands[metric].at(policy.predicted_quantile) for metric in metrics])
        for shard in shards
    }
    parts: dict[str, Floats] = {}
    for shard in shards:
        here = view.on(shard.name)
        if not here:
            continue
        activity = np.array([bucket.band.at(0.5) for bucket in here])
        together = activity.sum(axis=0)
        share = np.divide(activity, together, out=np.zeros_like(activity), where=together > 0)
        parts |= {bucket.name: loads[shard.name] * share[row] for row, bucket in enumerate(here)}
    capacity = {
        shard.name: np.array([[shard.capacity[metric]] for metric in metrics]) for shard in view.shards
    }
    return FleetLoads(metrics, capacity, loads, parts, view.draining)
