"""Which buckets to take off a shard: the fewest bytes that bring it under its ceiling at every step.

This is a covering problem with several rows (multidimensional knapsack, NP-hard). What finds a cover here: greedy by
relief per byte, from several weightings of resources and steps (Dobson, Worst-case analysis of greedy heuristics for
integer programming with nonnegative data, 1982), then without what later picks made needless, then local search that
exchanges up to two buckets for up to two others. All of it is deterministic, and bounded in time.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from itertools import combinations

import numpy as np

from foreshard.planning.view import Floats, Indexes, Sizes

TOLERANCE = 1e-9
"""So that a sum of parts is not above a ceiling by its last digit; shares of capacity."""

_GIVEN_UP = 12  # buckets of a cover that an exchange may take out, the ones of least relief per byte
_TAKEN_UP = 24  # and others that it may put in, the ones of most
_EXCHANGES = 50
_REPLACED = 8  # of a cover's largest buckets
_STEPS, _STEP = 24, 2.0  # of the search for weights
_NOTHING: Indexes = np.empty(0, np.intp)


def cover(
    parts: Floats, need: Floats, sizes: Sizes, room: Floats | None = None, brings: Floats | None = None
) -> Indexes | None:
    """The rows whose move relieves a source, at about the fewest bytes; None if no such rows were found.

    ``parts`` (n, cells): what each bucket takes off the source, ``need`` (cells,): by how much the source stands above
    its ceiling, both as shares of its capacity; a cell without need is 0 or less. ``sizes`` (n,): bytes. With a target:
    ``brings`` (n, other cells), what each adds to it, and ``room`` (other cells,), what it may still take.

    Rows come in order of relief per byte. None of them can be left out: some need would be unmet.
    """
    needy = np.flatnonzero(need > TOLERANCE)
    if not len(needy):
        return _NOTHING
    useful = np.flatnonzero((parts[:, needy] > 0).any(axis=1))
    if brings is not None and room is not None:
        useful = useful[(brings[useful] <= room + TOLERANCE).all(axis=1)]
    if not _met(parts[np.ix_(useful, needy)], need[needy]):
        return None
    found = _Search(
        np.ascontiguousarray(parts[np.ix_(useful, needy)], float),
        np.asarray(need[needy], float),
        np.asarray(sizes[useful], float),
        None if room is None else np.asarray(room, float),
        None if brings is None else np.asarray(brings[useful], float),
    ).best()
    return None if found is None else useful[found]


def without_needless(chosen: Indexes, parts: Floats, need: Floats, sizes: Sizes) -> Indexes:
    """The ``chosen`` rows without those that can be left out, the largest first; arguments as of ``cover``.

    One pass is enough: with fewer buckets moved, a bucket that was needed stays needed.
    """
    needy = np.flatnonzero(need > TOLERANCE)
    over = parts[np.ix_(chosen, needy)].sum(axis=0) - need[needy]
    kept = []
    for row in sorted(chosen.tolist(), key=lambda row: (-sizes[row], parts[row, needy].sum(), row)):
        left = over - parts[row, needy]
        if (left >= -TOLERANCE).all():
            over = left
        else:
            kept.append(row)
    return chosen[np.isin(chosen, kept)]


def _met(parts: Floats, need: Floats) -> bool:
    return bool((parts.sum(axis=0) >= need - TOLERANCE).all())


@dataclass(eq=False)
class _Search:
    """Of the buckets that help, over the cells in need."""

    parts: Floats
    need: Floats
    sizes: Floats
    room: Floats | None
    brings: Floats | None

    def best(self) -> Indexes | None:
        """The best cover found."""
        alike, matching = np.ones(len(self.need)), self._weights()
        starts = [self._greedy(weights) for weights in (matching, alike, 1 / self.need)]
        covers = [self._pruned(chosen) for chosen in starts if chosen is not None]
        if not covers:
            return None
        least = min(covers, key=lambda chosen: float(self.sizes[chosen].sum()))
        return self._ordered(self._improved(least, matching))

    def _weights(self) -> Floats:
        """Of the cells, such that buckets taken by weighted relief per byte meet all needs at about the same time.

        Where a cell is met last its weight grows: the multipliers of a surrogate constraint (Glover, Surrogate
        constraints, 1968), by multiplicative steps.
        """
        weights = 1 / self.need
        for number in range(_STEPS):
            order = np.argsort(-self._per_byte(weights), kind="stable")
            enough = np.cumsum(self.parts[order] @ weights) >= self.need @ weights * (1 - TOLERANCE)
            taken = order[: int(enough.argmax()) + 1]
            lack = 1 - self.parts[taken].sum(axis=0) / self.need
            weights = weights * np.exp(lack * _STEP / (1 + number / 4))
            weights /= weights @ self.need
        return weights

    def _per_byte(self, weights: Floats) -> Floats:
        value: Floats = np.minimum(self.parts, self.need) @ weights / self._costs()
        return value

    def _costs(self) -> Floats:
        return np.maximum(self.sizes, 1.0)

    def _greedy(self, weights: Floats, kept: Indexes = _NOTHING, banned: int = -1) -> Indexes | None:
        """Again and again the most relief per byte that the target can still take, beside those ``kept``.

        A bucket's relief only falls as others are taken, so an old figure is a bound, and only the best need be
        reckoned anew (Minoux, Accelerated greedy algorithms for maximizing submodular set functions, 1978).
        """
        chosen: list[int] = kept.tolist()
        left = np.maximum(self.need - self.parts[kept].sum(axis=0), 0.0)
        room = np.inf if self.room is None else self.room + TOLERANCE
        if self.brings is not None:
            room = room - self.brings[kept].sum(axis=0)
        relief = np.minimum(self.parts, left) @ weights / self._costs()
        relief[kept] = 0.0
        relief[banned if banned >= 0 else kept] = 0.0
        heap = [(-value, row) for row, value in enumerate(relief.tolist()) if value > 0]
        heapify(heap)
        while heap:
            bound, row = heap[0]
            if self.brings is not None and (self.brings[row] > room).any():
                heappop(heap)
                continue
            value = float(np.minimum(self.parts[row], left) @ weights) / max(self.sizes[row], 1.0)
            if value < -bound * (1 - TOLERANCE):
                heapreplace(heap, (-value, row))
                continue
            heappop(heap)
            chosen.append(row)
            left = np.maximum(left - self.parts[row], 0.0)
            if self.brings is not None:
                room = room - self.brings[row]
            if left.max() <= TOLERANCE and _met(self.parts[chosen], self.need):
                return np.array(chosen, np.intp)
        return None

    def _pruned(self, chosen: Indexes) -> Indexes:
        return without_needless(chosen, self.parts, self.need, self.sizes)

    def _improved(self, chosen: Indexes, weights: Floats) -> Indexes:
        """Exchanges, the one that saves most bytes first, until none saves any."""
        per_byte = self._per_byte(weights)
        for _ in range(_EXCHANGES):
            better = self._exchange(chosen, per_byte)
            if better is None:
                better = self._replaced(chosen, weights)
            if better is None:
                break
            chosen = self._pruned(better)
        return chosen

    def _exchange(self, chosen: Indexes, per_byte: Floats) -> Indexes | None:
        inside = chosen[np.lexsort((chosen, per_byte[chosen]))][:_GIVEN_UP]
        others = np.setdiff1d(np.arange(len(self.sizes)), chosen)
        outside = others[np.lexsort((others, -per_byte[others]))][:_TAKEN_UP]
        gone, come = _up_to_two(inside), _up_to_two(outside)
        lack = self.need - self.parts[chosen].sum(axis=0) - TOLERANCE
        wanted = lack + self._sums(self.parts, gone)
        given = self._sums(self.parts, come)
        saved = self._sums(self.sizes, gone)[:, None] - self._sums(self.sizes, come)
        tight = int(np.argmax(wanted.sum(axis=0) / self.need))
        first, second = np.nonzero((saved > 0) & (given[:, tight] >= wanted[:, tight, None]))
        met = (given[second] >= wanted[first]).all(axis=1)
        first, second = first[met], second[met]
        for at in np.argsort(-saved[first, second], kind="stable"):
            out, into = gone[first[at]], come[second[at]]
            after = np.concatenate([np.setdiff1d(chosen, out), into[into >= 0]])
            if self._fits(after):
                return after
        return None

    def _replaced(self, chosen: Indexes, weights: Floats) -> Indexes | None:
        """One of the largest buckets out, and instead of it as many others as it takes."""
        bytes_now = self.sizes[chosen].sum()
        for row in chosen[np.lexsort((chosen, -self.sizes[chosen]))][:_REPLACED]:
            other = self._greedy(weights, chosen[chosen != row], int(row))
            if other is not None:
                other = self._pruned(other)
                if self.sizes[other].sum() < bytes_now:
                    return other
        return None

    def _sums(self, values: Floats, rows: Indexes) -> Floats:
        """Of each pair of rows; a row of -1 stands for none."""
        padded = np.concatenate([values, np.zeros((1, *values.shape[1:]))])
        total: Floats = padded[rows[:, 0]] + padded[rows[:, 1]]
        return total

    def _fits(self, chosen: Indexes) -> bool:
        if self.brings is None or self.room is None:
            return True
        return bool((self.brings[chosen].sum(axis=0) <= self.room + TOLERANCE).all())

    def _ordered(self, chosen: Indexes) -> Indexes:
        relief = np.minimum(self.parts[chosen], self.need).sum(axis=1) / self._costs()[chosen]
        return chosen[np.lexsort((chosen, -relief))]


def _up_to_two(rows: Indexes) -> Indexes:
    """None, each one, and each two of the rows, as pairs: (m, 2); -1 stands for none."""
    pairs = [(-1, -1), *((int(row), -1) for row in rows), *combinations(rows.tolist(), 2)]
    return np.array(pairs, np.intp)
