"""Which buckets to take off a shard: the fewest bytes that bring it under its ceiling at every step.

A covering problem with several rows (multidimensional knapsack), NP-hard. Solved here nearly: greedy by relief per byte
(Dobson, Worst-case analysis of greedy heuristics for integer programming with nonnegative data, 1982) from several
weightings of the cells and from single large buckets, less what later picks made needless, then a local search that
exchanges up to two buckets for up to two others. All of it is deterministic and bounded in time.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from foreshard.planning.view import Floats, Indexes, Sizes

TOLERANCE = 1e-9
"""So that a sum of parts is not above a ceiling by its last digit; shares of capacity."""

_LARGE = 8  # buckets that a search begins with, one each
_MANY = 100  # buckets of a cover: one of them matters little
_DEARER = 1.2  # than the best cover so far: what is left out later will not make up for more
_GIVEN_UP = 12  # buckets that an exchange may take out, those of least relief per byte
_TAKEN_UP = 24  # and that it may put in, those of most
_EXCHANGES = 50
_ASKED = 50  # exchanges that save bytes, whether the target has room for them
_STEPS, _STEP = 8, 2.0  # of the search for weights
_BLOCK = 128  # buckets that are looked at together
_NOTHING: Indexes = np.empty(0, np.intp)


def cover(
    parts: Floats, need: Floats, sizes: Sizes, room: Floats | None = None, brings: Floats | None = None
) -> Indexes | None:
    """The rows whose move relieves a source, at about the fewest bytes; None if none were found.

    ``parts`` (n, cells): what each bucket takes off the source, ``need`` (cells,): by how much the source stands above
    its ceiling, both as shares of its capacity; where nothing is needed it is 0 or less. ``sizes`` (n,): bytes. With a
    target: ``brings`` (n, other cells), what each adds to it, and ``room`` (other cells,), what it may still take.

    Rows come in order of relief per byte. None of them can be left out: some need would be unmet.
    """
    needy = need > TOLERANCE
    if not needy.any():
        return _NOTHING
    if room is None or brings is None:
        room, brings = np.empty(0), np.empty((len(sizes), 0))
    useful = np.flatnonzero((parts[:, needy] > 0).any(axis=1) & (brings <= room + TOLERANCE).all(axis=1))
    found = _Search(
        np.asarray(parts[useful][:, needy], float),
        np.asarray(need[needy], float),
        np.asarray(sizes[useful], float),
        np.asarray(room, float),
        np.asarray(brings[useful], float),
    ).best()
    return None if found is None else useful[found]


def without_needless(chosen: Indexes, parts: Floats, need: Floats, sizes: Sizes | Floats) -> Indexes:
    """The ``chosen`` rows without those that can be left out, the largest first; arguments as of ``cover``.

    One pass is enough: with fewer buckets moved, a bucket that was needed stays needed.
    """
    taken = parts[chosen][:, need > TOLERANCE]
    over = taken.sum(axis=0) - need[need > TOLERANCE] + TOLERANCE
    kept = np.ones(len(chosen), bool)
    for at in np.lexsort((chosen, taken.sum(axis=1), -np.asarray(sizes, float)[chosen])):
        left = over - taken[at]
        if left.min(initial=0.0) >= 0:
            over, kept[at] = left, False
    return chosen[kept]


@dataclass(eq=False)
class _Search:
    """Among the buckets that help and that the target could take, over the cells in need."""

    parts: Floats
    need: Floats
    sizes: Floats
    room: Floats
    brings: Floats

    def __post_init__(self) -> None:
        self.costs = np.maximum(self.sizes, 1.0)

    def best(self) -> Indexes | None:
        if (self.parts.sum(axis=0) < self.need - TOLERANCE).any():
            return None
        weights = self._weights()
        best = self._greedy(weights)
        if best is None:
            best = self._greedy(weights, costs=self._space())
        if best is None:
            return None
        best = self._pruned(best)
        firsts = self._large(weights) if len(best) <= _MANY else _NOTHING
        for way, first in ((np.ones_like(weights), None), *((weights, int(row)) for row in firsts)):
            other = self._greedy(way, first, most=_DEARER * self._bytes(best))
            if other is not None:
                best = min(best, self._pruned(other), key=self._bytes)
        return self._ordered(self._improved(best, self._per_byte(weights)))

    def _weights(self) -> Floats:
        """Of the cells, such that buckets taken by weighted relief per byte meet all needs at about the same time.

        Where a need is met last its weight grows: the multipliers of a surrogate constraint (Glover, Surrogate
        constraints, 1968), by multiplicative steps.
        """
        weights = 1 / self.need
        for number in range(_STEPS):
            order = np.argsort(-self._per_byte(weights), kind="stable")
            enough = np.cumsum(self.parts[order] @ weights) >= self.need @ weights * (1 - TOLERANCE)
            taken = order[: int(enough.argmax()) + 1]
            lack = 1 - self.parts[taken].sum(axis=0) / self.need
            weights = weights * np.exp(np.maximum(lack, -1) * _STEP / (1 + number / 4))
            weights /= weights @ self.need
        return weights

    def _per_byte(self, weights: Floats) -> Floats:
        value: Floats = self._relief(weights) / self.costs
        return value

    def _relief(self, weights: Floats) -> Floats:
        value: Floats = np.minimum(self.parts, self.need) @ weights
        return value

    def _large(self, weights: Floats) -> Indexes:
        """Those that relieve most: each may be worth more than the many that go before it by relief per byte."""
        return np.argsort(-self._relief(weights), kind="stable")[:_LARGE]

    def _space(self) -> Floats:
        """Which part of the target's room each takes: counts where it is too full for a cover of few bytes."""
        share = self.brings / np.maximum(self.room, TOLERANCE)
        space: Floats = np.maximum(share.max(axis=1, initial=0.0), TOLERANCE)
        return space

    def _bytes(self, chosen: Indexes) -> float:
        return float(self.sizes[chosen].sum())

    def _greedy(
        self, weights: Floats, first: int | None = None, costs: Floats | None = None, most: float = np.inf
    ) -> Indexes | None:
        """Again and again the most relief per byte (or ``costs``) that the target can still take, after ``first``.

        Given up when it takes more bytes than ``most``. A bucket's relief only falls as others are taken, so old
        figures are bounds, and only the highest are reckoned anew (Minoux, Accelerated greedy algorithms for maximizing
        submodular set functions, 1978).
        """
        costs = self.costs if costs is None else costs
        bounds = self._relief(weights) / costs
        chosen: list[int] = []
        left, room, size = self.need, self.room + TOLERANCE, 0.0
        if first is not None:
            bounds[first] = np.inf
        while left.max() > TOLERANCE:
            rows, beyond = _highest(bounds)
            parts, worth = self.parts[rows], 1 / costs[rows]
            values = bounds[rows]
            worth[values <= 0] = 0.0
            while left.max() > TOLERANCE:
                at = int(values.argmax())
                if values[at] < beyond:
                    break
                if values[at] <= 0 or size > most:
                    return None
                if (self.brings[rows[at]] > room).any():
                    values[at] = worth[at] = 0.0
                    continue
                chosen.append(int(rows[at]))
                size += self.sizes[rows[at]]
                left = np.maximum(left - parts[at], 0.0)
                room = room - self.brings[rows[at]]
                worth[at] = 0.0
                values = np.minimum(parts, left) @ weights * worth
            bounds[rows] = values
        return np.array(chosen, np.intp)

    def _pruned(self, chosen: Indexes) -> Indexes:
        return without_needless(chosen, self.parts, self.need, self.sizes)

    def _improved(self, chosen: Indexes, per_byte: Floats) -> Indexes:
        """Exchanges, the one that saves most bytes first, until none saves any."""
        for _ in range(_EXCHANGES):
            better = self._exchange(chosen, per_byte)
            if better is None:
                break
            chosen = self._pruned(better)
        return chosen

    def _exchange(self, chosen: Indexes, per_byte: Floats) -> Indexes | None:
        """Up to two of them for up to two others."""
        inside = chosen[np.lexsort((chosen, per_byte[chosen]))][:_GIVEN_UP]
        others = np.setdiff1d(np.arange(len(self.sizes)), chosen)
        outside = others[np.lexsort((others, -per_byte[others]))][:_TAKEN_UP]
        gone, come = _up_to_two(inside), _up_to_two(outside)
        saved = _sums(self.sizes, gone)[:, None] - _sums(self.sizes, come)
        lack = self.need - self.parts[chosen].sum(axis=0) - TOLERANCE
        wanted, given = lack + _sums(self.parts, gone), _sums(self.parts, come)
        hardest = int(np.argmax(wanted.sum(axis=0) / self.need))
        first, second = np.nonzero((saved > 0) & (given[:, hardest] >= wanted[:, hardest, None]))
        met = (given[second] >= wanted[first]).all(axis=1)
        first, second = first[met], second[met]
        for at in np.argsort(-saved[first, second], kind="stable")[:_ASKED]:
            out, into = gone[first[at]], come[second[at]]
            after = np.concatenate([chosen[~np.isin(chosen, out)], into[into >= 0]])
            if self._fits(after):
                return after
        return None

    def _fits(self, chosen: Indexes) -> bool:
        return bool((self.brings[chosen].sum(axis=0) <= self.room + TOLERANCE).all())

    def _ordered(self, chosen: Indexes) -> Indexes:
        relief = np.minimum(self.parts[chosen], self.need).sum(axis=1) / self.costs[chosen]
        return chosen[np.lexsort((chosen, -relief))]


def _highest(bounds: Floats) -> tuple[Indexes, float]:
    """A block of rows with the highest bounds, and the highest bound of the others."""
    if len(bounds) <= _BLOCK:
        return np.arange(len(bounds)), 0.0
    order = np.argpartition(-bounds, _BLOCK)
    return np.sort(order[:_BLOCK]), float(bounds[order[_BLOCK]])


def _up_to_two(rows: Indexes) -> Indexes:
    """None, each one, and each two of the rows, as pairs: (m, 2); -1 stands for none."""
    pairs = [(-1, -1), *((row, -1) for row in rows.tolist()), *combinations(rows.tolist(), 2)]
    return np.array(pairs, np.intp)


def _sums(values: Floats, pairs: Indexes) -> Floats:
    """Of each of the pairs of rows."""
    padded = np.concatenate([values, np.zeros((1, *values.shape[1:]))])
    total: Floats = padded[pairs[:, 0]] + padded[pairs[:, 1]]
    return total
