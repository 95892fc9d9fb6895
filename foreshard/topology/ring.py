"""A consistent hash ring with virtual nodes.

The ring only gives an order of shards for a key. Whether a shard has room (bounded loads) is the planner's
question.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from foreshard.errors import InvalidInput

VIRTUAL_NODES = 128

_OF_SHARDS = b"foreshard shard"
_OF_KEYS = b"foreshard key"
_POINT_BYTES = 8
_POINTS_A_HASH = blake2b.MAX_DIGEST_SIZE // _POINT_BYTES


class HashRing:
    """Shards on a circle, each at ``weight * virtual_nodes`` points (at least one).

    A weight of 1 is an ordinary shard. A shard's points depend on its own name and weight alone, so adding or
    removing a shard never changes the order of the others.

    Positions are 64 bits of BLAKE2b: the standard library has it in C, it gives eight points of a shard at a time, and
    it is the same in every process and on every machine, unlike ``hash``. Nothing stored depends on them.
    """

    def __init__(self, weights: Mapping[str, float], virtual_nodes: int = VIRTUAL_NODES) -> None:
        """Raises ``InvalidInput`` without shards or for a weight that is not a positive finite number."""
        if not weights:
            raise InvalidInput("weights", "a ring needs at least one shard")
        if virtual_nodes < 1:
            raise InvalidInput("virtual_nodes", f"{virtual_nodes} is not at least 1")
        for shard, weight in weights.items():
            if not (math.isfinite(weight) and weight > 0):
                raise InvalidInput("weights", f"{weight} of shard {shard} is not a positive number")
        names = sorted(weights)
        points = [_points(name, max(1, round(weights[name] * virtual_nodes))) for name in names]
        positions = np.concatenate(points)
        owners = np.repeat(np.arange(len(names)), [len(each) for each in points])
        order = np.argsort(positions, kind="stable")  # of equal positions the first by name
        self._positions = array(
            "Q", positions[order].astype(np.uint64).tobytes()
        )  # denser than a list: lookups
        self._shards = [names[owner] for owner in owners[order]]
        self._count = len(names)

    def clockwise(self, key: str) -> Iterator[str]:
        """Every shard once, in the order met clockwise from ``key``'s position."""
        start = bisect_right(self._positions, _position(key))
        first = self._shards[start - len(self._shards)]
        yield first
        met = {first}
        for step in range(start + 1 - len(self._shards), start):
            shard = self._shards[step]
            if shard not in met:
                met.add(shard)
                yield shard
                if len(met) == self._count:
                    return


def _position(key: str) -> int:
    return int.from_bytes(blake2b(key.encode(), digest_size=_POINT_BYTES, person=_OF_KEYS).digest(), "little")


def _points(shard: str, count: int) -> npt.NDArray[np.uint64]:
    """The shard's first ``count`` points: those of a lower weight are among those of a higher one."""
    name = blake2b(shard.encode(), person=_OF_SHARDS)
    digests = bytearray()
    for number in range(-(-count // _POINTS_A_HASH)):
        part = name.copy()
        part.update(number.to_bytes(_POINT_BYTES, "little"))
        digests += part.digest()
    points: npt.NDArray[np.uint64] = np.frombuffer(digests, "<u8")[:count]
    return points
