"""The fleet that load is replayed on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foreshard.errors import InvalidInput
from foreshard.planning.view import Floats, Indexes
from foreshard.simulate.trace import Trace


@dataclass(frozen=True, eq=False)
class Fleet:
    """S shards by name. ``capacity`` (S, R) in the metrics' units; ``placement`` (B,): the row of the shard that each
    bucket lies on at first; ``own`` (S, R, T): load that no bucket makes and that stays, None for none.

    Raises ``InvalidInput``: shapes that do not fit, a capacity that is none, names that are not sorted.
    """

    name: str
    shards: tuple[str, ...]
    capacity: Floats
    placement: Indexes
    own: Floats | None = None

    def __post_init__(self) -> None:
        if list(self.shards) != sorted(set(self.shards)) or not self.shards:
            raise InvalidInput(
                "shards", "there are none, they are not sorted by name, or two have the same one"
            )
        if self.capacity.ndim != 2 or len(self.capacity) != len(self.shards) or not (self.capacity > 0).all():
            raise InvalidInput("capacity", "is not one positive number for each shard and metric")
        if self.placement.size and not (
            self.placement.min() >= 0 and self.placement.max() < len(self.shards)
        ):
            raise InvalidInput("placement", "names a shard that is not in the fleet")

    def load(self, trace: Trace, placement: Indexes, first: int, until: int) -> Floats:
        """What the shards carry under ``placement`` in the steps ``first`` .. ``until - 1``, shape (S, R, steps)."""
        total = np.zeros((len(self.shards), len(trace.metrics), until - first))
        for shard in np.unique(placement):
            total[shard] = trace.load[placement == shard, :, first:until].sum(axis=0)
        if self.own is not None:
            total += self.own[:, :, first:until]
        return total
