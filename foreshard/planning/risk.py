"""Risk of a shard: the seed's rule, in units of capacity."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.view import ShardView


@dataclass(frozen=True)
class ResourceRisk:
    """One resource of one shard. Loads and ``capacity`` in the metric's unit, utilisations in units of
    capacity.

    ``predicted`` is the horizon's peak of the policy's quantile; ``excess_at`` the first step above capacity.
    """

    metric: str
    current: float
    predicted: float
    capacity: float
    utilisation: float
    predicted_utilisation: float
    score: float
    excess_at: datetime | None


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
    above = max(0.0, predicted / capacity - 1.0)
    present = max(0.0, current / capacity - policy.knee)
    return policy.predicted_weight * above + policy.current_weight * present - cost


def shard_risk(shard: ShardView, policy: DecisionPolicy) -> ShardRisk:
    """The shard's risk before the cost of any migration."""
    resources = tuple(_resource_risk(shard, metric, policy) for metric in sorted(shard.capacity))
    worst = max(resources, key=lambda one: (one.score, one.predicted_utilisation))
    excesses = [one.excess_at for one in resources if one.excess_at is not None]
    return ShardRisk(shard.name, worst.score, 0.0, worst.metric, resources, min(excesses, default=None))


def _resource_risk(shard: ShardView, metric: str, policy: DecisionPolicy) -> ResourceRisk:
    capacity, current, band = shard.capacity[metric], shard.current[metric], shard.bands[metric]
    predicted = band.peak(policy.predicted_quantile)
    return ResourceRisk(
        metric=metric,
        current=current,
        predicted=predicted,
        capacity=capacity,
        utilisation=current / capacity,
        predicted_utilisation=predicted / capacity,
        score=score(predicted, current, capacity, 0.0, policy),
        excess_at=band.first_above(capacity, policy.predicted_quantile),
    )
