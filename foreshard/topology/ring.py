"""A consistent hash ring with virtual nodes.

The ring only gives an order of shards for a key. Whether a shard has room (bounded loads) is the planner's
question.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping

from foreshard.errors import InvalidInput
from foreshard.topology.keys import KeyType, hash_extended

RING_SEED = 0x3C6EF372FE94F82A
VIRTUAL_NODES = 128


class HashRing:
    """Shards on a circle, each at ``weight * virtual_nodes`` points (at least one).

    A weight of 1 is an ordinary shard. A shard's points depend on its own name and weight alone, so adding or
    removing a shard never changes the order of the others.
    """

    def __init__(self, weights: Mapping[str, float], virtual_nodes: int = VIRTUAL_NODES) -> None:
        """Raises ``InvalidInput`` without shards or for a weight that is not a positive finite number."""
        if not weights:
            raise InvalidInput("weights", "a ring needs at least one shard")
        if virtual_nodes < 1:
            raise InvalidInput("virtual_nodes", f"{virtual_nodes} is not at least 1")
        points: list[tuple[int, str]] = []
        for shard, weight in weights.items():
            if not (math.isfinite(weight) and weight > 0):
                raise InvalidInput("weights", f"{weight} of shard {shard} is not a positive number")
            count = max(1, round(weight * virtual_nodes))
            points += [(_position(f"{shard}#{number}"), shard) for number in range(count)]
        points.sort()
        self._positions = [position for position, _ in points]
        self._shards = [shard for _, shard in points]
        self._count = len(weights)

    def clockwise(self, key: str) -> Iterator[str]:
        """Every shard once, in the order met clockwise from ``key``'s position."""
        start = bisect_right(self._positions, _position(key))
        met: set[str] = set()
        for step in range(len(self._shards)):
            shard = self._shards[(start + step) % len(self._shards)]
            if shard not in met:
                met.add(shard)
                yield shard
                if len(met) == self._count:
                    return


def _position(name: str) -> int:
    return hash_extended(name, KeyType.TEXT, RING_SEED)
