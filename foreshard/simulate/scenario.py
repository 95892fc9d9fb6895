"""Made-up fleets for loads that were recorded without one: a start placement, and capacities that are tight."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foreshard.errors import InvalidInput
from foreshard.planning.view import Floats, Indexes
from foreshard.simulate.fleet import Fleet
from foreshard.simulate.trace import Trace

SATURATED = (0.02, 0.05, 0.10)
"""Share of shard-minutes that are saturated if nothing is moved: at least, aimed at, at most."""
SLACK = 0.7
"""Of the fleet's capacity, what its busiest minutes (all but one in a thousand) may take."""


@dataclass(frozen=True)
class Shape:
    """``shards``, of which ``empty`` hold nothing at first; ``skew``: how unequal the others' buckets are, 0 for by lot
    alone.
    """

    shards: int
    skew: float = 0.5
    empty: int = 0

    def __post_init__(self) -> None:
        if self.shards < 2 or not 0 <= self.empty < self.shards:
            raise InvalidInput(
                "shards", f"{self.shards} with {self.empty} of them empty is no fleet to move in"
            )


SKEWER = 1.25
MOST_SKEW = 8.0


def fleet(name: str, trace: Trace, shape: Shape, first: int, until: int, seed: int) -> Fleet:
    """A fleet of equal shards on which what is replayed saturates at times though it need not.

    The start placement is drawn; it becomes more skewed until the fleet as a whole has slack. One number scales all
    capacities, found by bisection, so that 5 % of shard-minutes saturate if nothing is moved, or with a placement that
    is not skewed enough as much as that slack allows.
    """
    shards = tuple(f"shard-{number:02}" for number in range(1, shape.shards + 1))
    skew = shape.skew
    while True:
        placement = _placement(len(trace.names), shape, skew, seed)
        drawn = Fleet(name, shards, np.ones((len(shards), len(trace.metrics))), placement)
        load = drawn.load(trace, placement, first, until)
        capacity = np.stack([_capacity(load[:, row]) for row in range(load.shape[1])])
        saturated = float((load > capacity[None, :, None]).any(axis=1).mean())
        if saturated >= SATURATED[0] or skew > MOST_SKEW:
            break
        skew = max(skew * SKEWER, 0.1)
    return Fleet(name, shards, np.tile(capacity, (len(shards), 1)), placement)


def _placement(buckets: int, shape: Shape, skew: float, seed: int) -> Indexes:
    random = np.random.default_rng(seed)
    filled = shape.shards - shape.empty
    weight = np.exp(-skew * np.arange(filled) / max(filled - 1, 1) * 2)
    weight = random.permutation(weight / weight.sum())
    found: Indexes = random.choice(filled, buckets, p=weight).astype(np.intp)
    # No shard but those that are to be empty begins without a bucket.
    found[random.permutation(buckets)[:filled]] = np.arange(filled)
    return found


def _capacity(load: Floats) -> float:
    """Of each shard, for the load (S, T) of one resource."""
    least = float(np.quantile(load.sum(axis=0), 0.999)) / (SLACK * len(load))
    low, high = float(load.min()), float(load.max()) * 1.01 + 1e-9
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if (load > middle).mean() > SATURATED[1] else (low, middle)
    return max(high, least)
