"""Risk of a shard: the seed's rule in units of capacity, and the same with probabilities in the place of a point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from foreshard.forecast.peak import PEAK_LEVELS, above
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
    ahead, present = np.asarray(predicted / capacity - 1.0), np.asarray(current / capacity)
    return float(_weighed(np.maximum(ahead, 0.0), present, policy)) - cost


def _weighed(ahead: Floats, utilisation: Floats, policy: DecisionPolicy) -> Floats:
    present = np.maximum(utilisation - policy.knee, 0.0)
    weighed: Floats = policy.predicted_weight * ahead + policy.current_weight * present
    return weighed


def exceeding(peaks: Floats) -> tuple[Floats, Floats]:
    """Probability that load exceeds capacity within the window, and the expected excess over it; of each (...).

    ``peaks``, shape (..., 17): quantiles of the window's largest load at ``PEAK_LEVELS``, in units of capacity. The
    expected excess is the mean of ``max(0, load - 1)`` by the trapezoidal rule over the levels, the outermost values
    standing for what is beyond them.
    """
    rising = np.maximum.accumulate(
        np.asarray(peaks, np.float64), axis=-1
    )  # sums may cross by their last digit
    over = np.maximum(np.concatenate([rising[..., :1], rising, rising[..., -1:]], axis=-1) - 1.0, 0.0)
    excess: Floats = np.trapezoid(over, [0.0, *PEAK_LEVELS, 1.0], axis=-1)
    return above(rising, 1.0), excess


def level_score(peaks: Floats, utilisation: Floats, policy: DecisionPolicy) -> Floats:
    """The scores of resources, without a cost, (...). ``peaks`` (..., L): the peak of each level, in units of capacity.

    `threshold` has one level and the seed's rule; `probabilistic` puts the probability of excess plus the expected
    excess in the place of the point, with the same weights.
    """
    if policy.policy == "threshold":
        return _weighed(np.maximum(peaks[..., 0] - 1.0, 0.0), utilisation, policy)
    exceeds, excess = exceeding(peaks)
    return _weighed(exceeds + excess, utilisation, policy)


def shard_risks(
    view: FleetView, loads: FleetLoads, shards: Sequence[int], policy: DecisionPolicy
) -> list[ShardRisk]:
    """The shards' risks before the cost of any migration, with what is under way or planned counted as done."""
    levels = np.stack([loads.levels[shard] for shard in shards])
    peaks = np.moveaxis(levels.max(axis=3), 1, 2)
    scores = level_score(peaks, loads.current[shards], policy)
    exceeds, excess = exceeding(peaks) if policy.policy == "probabilistic" else (None, None)
    return [
        _shard_risk(
            view.shards.names[shard],
            [
                ResourceRisk(
                    metric=metric,
                    current=float(loads.current[shard, row] * view.shards.capacity[shard, row]),
                    predicted=float(peaks[at, row, loads.planned] * view.shards.capacity[shard, row]),
                    capacity=float(view.shards.capacity[shard, row]),
                    utilisation=float(loads.current[shard, row]),
                    predicted_utilisation=float(peaks[at, row, loads.planned]),
                    score=float(scores[at, row]),
                    excess_at=_first_excess(view, levels[at, loads.planned, row]),
                    exceeds=None if exceeds is None else float(exceeds[at, row]),
                    expected_excess=None if excess is None else float(excess[at, row]),
                )
                for row, metric in enumerate(view.metrics)
            ],
        )
        for at, shard in enumerate(shards)
    ]


def _shard_risk(name: str, resources: Sequence[ResourceRisk]) -> ShardRisk:
    worst = max(resources, key=lambda one: (one.score, one.predicted_utilisation))
    excesses = [one.excess_at for one in resources if one.excess_at is not None]
    return ShardRisk(name, worst.score, 0.0, worst.metric, tuple(resources), min(excesses, default=None))


def _first_excess(view: FleetView, path: Floats) -> datetime | None:
    over = np.flatnonzero(path > 1.0)
    return view.at(int(over[0])) if len(over) else None
