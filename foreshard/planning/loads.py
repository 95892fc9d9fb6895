"""The loads that plans are made with, in units of capacity, and what moving buckets changes in them.

A shard's forecast is a distribution. The planner works with *levels* of it: a level is a path of load over the horizon,
such that the window's largest load stays under the path's peak with the level's probability. The policy `threshold`
has one, the path of its quantile; `probabilistic` has one for each of ``PEAK_LEVELS``: the path of the quantile
``predicted_quantile``, scaled so that its peak is that level of the distribution of the window's largest load.

A bucket's part of its shard's median is its load at each step. What a level is above the median is its buckets' by
their loads and spreads: a steady bucket takes little of the uncertainty along that a bursting neighbour brings. Levels
are added up as if loads rose together (comonotone), which is the cautious way: no dependence of two loads makes a high
quantile of their sum larger, for the elliptical distributions that the sums of many are close to (McNeil, Frey and
Embrechts, Quantitative Risk Management, 8.4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from foreshard.forecast.peak import PEAK_LEVELS
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.view import FleetView, Floats, Indexes

_STEADY = 0.01
"""No load is more certain than this: a share of it."""


@dataclass(eq=False)
class FleetLoads:
    """Loads of S shards in R resources over T steps at L levels, as shares of capacity; they follow moves as planned.

    ``levels``: of each shard (L, R, T), replaced by a move and never written into; ``planned``: which level buckets are
    placed by. ``current`` (S, R): the present load.
    ``origin`` (B,): the row of the shard that each bucket came from, whose spread goes with it. ``shard`` (B,): where
    each lies now, with all that is planned.
    """

    levels: list[Floats]
    planned: int
    current: Floats
    origin: Indexes
    shard: Indexes
    capacity: Floats
    _first: Floats = field(repr=False)  # (S, L, R, T): levels before any move, of which parts are parts
    _now: Floats = field(repr=False)  # (S, R)
    _load: Floats = field(repr=False)  # (B, R, T)
    _whole: Floats = field(repr=False)  # (S, R, T): what the loads of a shard's buckets are parts of
    _median: Floats = field(repr=False)  # (S, R, T), as levels
    _spread: Floats = field(repr=False)  # (B,)
    _spreads: Floats = field(
        repr=False
    )  # (S, R, T): of whole shards, the mean of their buckets' and their own part

    def path(self, shard: int) -> Floats:
        """The load that is planned with, shape (R, T)."""
        found: Floats = self.levels[shard][self.planned]
        return found

    def paths(self) -> Floats:
        """The load that is planned with of every shard, shape (S, R, T)."""
        return np.stack([of[self.planned] for of in self.levels])

    def part(self, buckets: Indexes) -> Floats:
        """The buckets' parts of the shards that they came from, 0 to 1; (n, R, T)."""
        found: Floats = self._load[buckets] / self._whole[self.origin[buckets]]
        return found

    def of(self, buckets: Indexes, shard: int) -> Floats:
        """The buckets' load at the planned level if they lie on ``shard``, in units of its capacity: (n, R, T)."""
        part, origin = self.part(buckets), self.origin[buckets]
        scale = self.capacity[origin] / self.capacity[shard]
        level, median = self._first[origin, self.planned], self._median[origin]
        above = self._uncertain(buckets, part) * np.maximum(level - median, 0.0)
        found: Floats = (part * np.minimum(level, median) + above) * scale[:, :, None]
        return found

    def _uncertain(self, buckets: Indexes, part: Floats) -> Floats:
        """Their parts of what their shards' levels are above the median, (n, R, T)."""
        found: Floats = part * self._spread[buckets, None, None] / self._spreads[self.origin[buckets]]
        return found

    def all_levels_of(self, buckets: Indexes, shard: int) -> Floats:
        """Their load together at every level if they lie on ``shard``, in units of its capacity: (L, R, T)."""
        total = np.zeros(self._first.shape[1:])
        for origin in np.unique(self.origin[buckets]):
            rows = buckets[self.origin[buckets] == origin]
            part = self.part(rows)
            scale = self.capacity[origin] / self.capacity[shard]
            level, median = self._first[origin], self._median[origin]
            total += np.minimum(level, median) * (part.sum(axis=0) * scale[:, None])
            above = self._uncertain(rows, part).sum(axis=0)
            total += np.maximum(level - median, 0.0) * (above * scale[:, None])
        return total

    def now_of(self, buckets: Indexes, shard: int) -> Floats:
        """Their part of the present load if they lie on ``shard``, in units of its capacity: (n, R)."""
        origin = self.origin[buckets]
        part = self._load[buckets, :, 0] / self._whole[origin, :, 0]
        found: Floats = part * self._now[origin] * self.capacity[origin] / self.capacity[shard]
        return found

    def on(self, shard: int) -> Indexes:
        """The rows of the buckets that lie there."""
        return np.flatnonzero(self.shard == shard)

    def without(self, shard: int, buckets: Indexes) -> Floats:
        """All levels of the shard after the buckets have left it, (L, R, T)."""
        left: Floats = np.maximum(self.levels[shard] - self.all_levels_of(buckets, shard), 0.0)
        return left

    def with_(self, shard: int, buckets: Indexes) -> Floats:
        """All levels of the shard after the buckets have come to it, (L, R, T)."""
        more: Floats = self.levels[shard] + self.all_levels_of(buckets, shard)
        return more

    def move(self, buckets: Indexes, target: int) -> None:
        """Plan with the buckets on ``target`` from now on."""
        for source in np.unique(self.shard[buckets]):
            going = buckets[self.shard[buckets] == source]
            self.levels[source] = self.without(source, going)
            self.current[source] = np.maximum(
                self.current[source] - self.now_of(going, source).sum(axis=0), 0.0
            )
        self.levels[target] = self.with_(target, buckets)
        self.current[target] = self.current[target] + self.now_of(buckets, target).sum(axis=0)
        self.shard[buckets] = target

    def at(self, planned: int) -> FleetLoads:
        """The same loads, planned by another level; a move in one is a move in the other."""
        return replace(self, planned=planned)

    def copy(self) -> FleetLoads:
        """One that can be moved in without changing this one."""
        return replace(self, levels=list(self.levels), current=self.current.copy(), shard=self.shard.copy())


def fleet_loads(view: FleetView, policy: DecisionPolicy) -> FleetLoads:
    """What ``policy`` plans with. Buckets that a migration under way moves lie where it takes them."""
    shards, buckets = view.shards, view.buckets
    capacity = np.asarray(shards.capacity, float)
    levels = _levels(view, policy) / capacity[:, None, :, None]
    current = shards.current / capacity
    planned = planned_level(policy.relief_probability, policy)
    lies = buckets.shard.copy()
    whole = _whole(view)
    spread = np.ones(len(buckets.names)) if buckets.spread is None else np.maximum(buckets.spread, _STEADY)
    loads = FleetLoads(
        levels=list(levels),
        planned=planned,
        current=current.copy(),
        origin=buckets.shard,
        shard=lies,
        capacity=capacity,
        _first=levels,
        _now=current,
        _load=buckets.load,
        _whole=whole,
        _median=np.asarray(shards.at(0.5), float) / capacity[:, :, None],
        _spread=np.asarray(spread, float),
        _spreads=_spreads(view, whole, spread),
    )
    _arrive(view.moving, view, loads)
    return loads


def _levels(view: FleetView, policy: DecisionPolicy) -> Floats:
    """Shape (S, L, R, T), in the metrics' units."""
    path = np.asarray(view.shards.at(policy.predicted_quantile), float)
    if policy.policy == "threshold":
        return path[:, None]
    highest = path.max(axis=2, keepdims=True)
    shape = np.divide(path, highest, out=np.ones_like(path), where=highest > 0)
    levels: Floats = np.moveaxis(view.shards.peaks, 2, 1)[..., None] * shape[:, None]
    return levels


def planned_level(probability: float, policy: DecisionPolicy) -> int:
    """The level that is exceeded with this probability."""
    if policy.policy == "threshold":
        return 0
    return int(np.argmin(np.abs(np.array(PEAK_LEVELS) - (1 - probability))))


def _whole(view: FleetView) -> Floats:
    """What buckets' loads are parts of, (S, R, T). Parts of a shard add up to at most 1; the rest is its own."""
    load = view.buckets.load
    whole: Floats = np.maximum(np.array(view.shards.at(0.5), load.dtype), _together(view, load))
    whole[whole == 0] = 1  # where no bucket has any load either
    return whole


def _spreads(view: FleetView, whole: Floats, spread: Floats) -> Floats:
    """The mean spread of each shard's load, (S, R, T); its own part has that of its buckets together."""
    if view.buckets.spread is None:
        return np.ones_like(whole)
    load = view.buckets.load
    of = _together(view, load * spread[:, None, None].astype(load.dtype))
    together = _together(view, load)
    mean = np.divide(of, together, out=np.ones_like(of), where=together > 0)
    found: Floats = np.maximum(mean, _STEADY)
    return found


def _together(view: FleetView, load: Floats) -> Floats:
    """Sums over the buckets of each shard, (S, R, T)."""
    together = np.zeros((len(view.shards.names), *load.shape[1:]), load.dtype)
    order = np.argsort(view.buckets.shard, kind="stable")
    found, first = np.unique(view.buckets.shard[order], return_index=True)
    if len(found):
        together[found] = np.add.reduceat(load[order], first)
    return together


def _arrive(moving: Mapping[str, str], view: FleetView, loads: FleetLoads) -> None:
    rows = {name: row for row, name in enumerate(view.buckets.names) if name in moving}
    shards = {name: row for row, name in enumerate(view.shards.names)}
    for target in sorted({moving[name] for name in rows} & shards.keys()):
        going = np.array([row for name, row in rows.items() if moving[name] == target], np.intp)
        loads.move(going[loads.shard[going] != shards[target]], shards[target])
