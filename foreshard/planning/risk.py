"""Risk of a shard: the seed's rule in units of capacity, and the same with probabilities in the place of a point."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from foreshard.forecast.peak import PEAK_LEVELS, Peak
from foreshard.planning.loads import FleetLoads
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.view import FleetView, Floats


@dataclass(frozen=True)
class ResourceRisk:
    """One resource of one shard. ``current``, ``predicted`` and ``capacity`` in the metric's unit, else shares of it.

    ``predicted``: the horizon's peak at the level that is planned with. ``excess_at``: the first step at which
    that level exceeds capacity. ``exceeds``: probability that the window's largest load exceeds it, and
    ``expected_excess`` by how much it does in the mean; None under `threshold`.
    """

    metric: str
    current: float
    predicted: float
    capacity: float
    utilisation: float
    predicted_utilisation: float
    score: float
    excess_at: datetime | None
    exceeds: float | None = None
    expected_excess: float | None = None


@dataclass(frozen=True)
class ShardRisk:
    """A shard's risk: its ``score`` is that of the ``worst`` resource; ``excess_at`` the earliest of all.

    ``cost`` is what the best relief would cost, already taken off every score; 0 where none is needed or
    found.
    """

    shard: str
    score: float
    cost: float
    worst: str
    resources: tuple[ResourceRisk, ...]
    excess_at: datetime | None

    @property
    def worst_resource(self) -> ResourceRisk:
        """The resource with the highest score, of equals the one with the highest predicted utilisation."""
        return next(resource for resource in self.resources if resource.metric == self.worst)

    @property
    def utilisation(self) -> float:
        """The present utilisation of the busiest resource."""
        return max(resource.utilisation for resource in self.resources)

    def less(self, cost: float) -> ShardRisk:
        """This risk with the cost of a migration taken off."""
        resources = tuple(replace(one, score=one.score - cost) for one in self.resources)
        return replace(self, score=self.score - cost, cost=self.cost + cost, resources=resources)


def score(predicted: float, current: float, capacity: float, cost: float, policy: DecisionPolicy) -> float:
    """The seed's rule with loads over ``capacity``, so that resources can be compared.

    ``0.8 * max(0, predicted - capacity) + 0.2 * max(0, current - 0.8 * capacity) - migration_cost``, with the
    two weights and the knee (the second 0.8) taken from the policy; ``cost`` is a share of capacity already.
    """
    return _weighed(max(0.0, predicted / capacity - 1.0), current / capacity, policy) - cost


def _weighed(above: float, utilisation: float, policy: DecisionPolicy) -> float:
    return policy.predicted_weight * above + policy.current_weight * max(0.0, utilisation - policy.knee)


def exceeding(peaks: Floats) -> tuple[float, float]:
    """Probability that load exceeds capacity within the window, and the expected excess over it.

    ``peaks``, shape (17,): quantiles of the window's largest load at ``PEAK_LEVELS``, in units of capacity. The
    expected excess is the mean of ``max(0, load - 1)`` by the trapezoidal rule over the levels, the outermost values
    standing for what is beyond them.
    """
    levels = np.array([0.0, *PEAK_LEVELS, 1.0])
    peaks = np.maximum.accumulate(peaks)  # sums of many parts may cross by their last digit
    over = np.maximum(np.array([peaks[0], *peaks, peaks[-1]]) - 1.0, 0.0)
    return Peak(np.array(peaks, np.float64)).above(1.0), float(np.trapezoid(over, levels))


def level_score(peaks: Floats, utilisation: float, policy: DecisionPolicy) -> float:
    """The score of one resource, without a cost. ``peaks``, shape (L,): the peak of each level, in units of capacity.

    `threshold` has one level and the seed's rule; `probabilistic` puts the probability of excess plus the expected
    excess in the place of the point, with the same weights.
    """
    if policy.policy == "threshold":
        return score(float(peaks[0]), utilisation, 1.0, 0.0, policy)
    return _weighed(sum(exceeding(peaks)), utilisation, policy)


def shard_risk(view: FleetView, loads: FleetLoads, shard: int, policy: DecisionPolicy) -> ShardRisk:
    """The shard's risk before the cost of any migration, with what is under way or planned counted as done."""
    name = view.shards.names[shard]
    resources = tuple(_resource_risk(view, loads, shard, row, policy) for row in range(len(view.metrics)))
    worst = max(resources, key=lambda one: (one.score, one.predicted_utilisation))
    excesses = [one.excess_at for one in resources if one.excess_at is not None]
    return ShardRisk(name, worst.score, 0.0, worst.metric, resources, min(excesses, default=None))


def _resource_risk(
    view: FleetView, loads: FleetLoads, shard: int, row: int, policy: DecisionPolicy
) -> ResourceRisk:
    capacity = float(view.shards.capacity[shard, row])
    utilisation = float(loads.current[shard, row])
    levels = loads.levels[shard][:, row]
    peaks = levels.max(axis=1)
    path = levels[loads.planned]
    over = np.flatnonzero(path > 1.0)
    exceeds, excess = (None, None) if policy.policy == "threshold" else exceeding(peaks)
    return ResourceRisk(
        metric=view.metrics[row],
        current=utilisation * capacity,
        predicted=float(path.max()) * capacity,
        capacity=capacity,
        utilisation=utilisation,
        predicted_utilisation=float(path.max()),
        score=level_score(peaks, utilisation, policy),
        excess_at=view.at(int(over[0])) if len(over) else None,
        exceeds=exceeds,
        expected_excess=excess,
    )
