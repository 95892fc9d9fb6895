"""The fleet while it is being planned: what may move where, and how much room is left."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from operator import is_not

import numpy as np
import numpy.typing as npt

from foreshard.planning.loads import FleetLoads, fleet_loads, planned_level
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.risk import ShardRisk, shard_risks
from foreshard.planning.view import FleetView, Floats, Indexes
from foreshard.topology.ring import HashRing

Mask = npt.NDArray[np.bool_]

ROUNDING = 1e-9
"""So that a sum of parts is not above a ceiling by its last digit."""


@dataclass(eq=False)
class Fleet:
    """``loads`` follow what is planned; all else stays as it was seen."""

    view: FleetView
    loads: FleetLoads
    policy: DecisionPolicy

    @staticmethod
    def of(view: FleetView, policy: DecisionPolicy) -> Fleet:
        """The fleet as seen, with migrations under way counted as done."""
        return Fleet(view, fleet_loads(view, policy), policy)

    def trial(self) -> Fleet:
        """The same, to plan in without a change to this one."""
        other = copy(self)  # with what was reckoned already
        other.loads = self.loads.copy()
        return other

    def strained(self, probability: float) -> Fleet:
        """The same loads by what is asked where the fleet has too little room for its ceiling, and for fair shares.

        Ends may exceed the strained ceiling with this ``probability``. A move in one is a move in the other.
        """
        policy = self.policy.model_copy(
            update={
                "target_ceiling": self.policy.strained_ceiling,
                "relief_probability": probability,
                "balance_above": 1.0,
            }
        )
        level = planned_level(policy.relief_probability, policy)
        return Fleet(self.view, self.loads.at(level), policy)

    def presses(self, shard: int, probability: float) -> bool:
        """Whether the shard may pass its ceiling with more than this probability, or is above the knee at present."""
        path = self.loads.at(planned_level(probability, self.policy)).path(shard)
        above = (path > self.policy.target_ceiling + ROUNDING).any()
        return bool(above or (self.loads.current[shard] > self.policy.knee).any())

    def risk(self, shard: int) -> ShardRisk:
        """The shard's risk as loads are now."""
        return shard_risks(self.view, self.loads, [shard], self.policy)[0]

    def risks(self) -> list[ShardRisk]:
        """Every shard's risk as loads are now."""
        return shard_risks(self.view, self.loads, range(len(self.view.shards.names)), self.policy)

    def name(self, shard: int) -> str:
        """Of a shard."""
        return self.view.shards.names[shard]

    def names(self, buckets: Indexes) -> tuple[str, ...]:
        """Of buckets, in their order."""
        return tuple(self.view.buckets.names[row] for row in buckets)

    def bytes(self, buckets: Indexes) -> int:
        """The buckets' size."""
        return int(self.view.buckets.size_bytes[buckets].sum())

    # -- room -----------------------------------------------------------------------------------------------

    @cached_property
    def draining(self) -> Mask:
        """Shape (S,): shards that are to be emptied."""
        return np.array([name in self.view.draining for name in self.view.shards.names])

    @cached_property
    def fair_share(self) -> Floats:
        """Peak utilisation of each resource if load were spread in proportion to capacity, shape (R,).

        What is being drained will have no part in it.
        """
        loads = self.loads
        load = np.einsum("srt,sr->rt", loads.paths(), loads.capacity)
        staying = ~self.draining if not self.draining.all() else np.ones_like(self.draining)
        share: Floats = (load / loads.capacity[staying].sum(axis=0)[:, None]).max(axis=1)
        return share

    @cached_property
    def limit(self) -> Floats:
        """What a target's peak may reach: its bounded share, at most the ceiling. Shape (R,), shares of capacity.

        A resource of which the whole fleet uses little needs no balance, so the bounded share counts as at least
        ``balance_above`` (bounded loads: Mirrokni, Thorup and Zadimoghaddam 2016, with predicted peaks for loads).
        """
        bounded = np.maximum((1.0 + self.policy.epsilon) * self.fair_share, self.policy.balance_above)
        limit: Floats = np.minimum(bounded, self.policy.target_ceiling)
        return limit

    def room(self, shard: int) -> Floats:
        """What the shard may still take as a target, in every cell: resources x steps, then the present of each.

        The present load counts against the knee: nobody moves load to where it is too much already.
        """
        path = self.limit[:, None] - self.loads.path(shard)
        return np.concatenate([path.ravel(), self.policy.knee - self.loads.current[shard]])

    def could_take(self, loads: Floats, source: int, targets: Indexes) -> Mask:
        """Which of the targets have room for which of ``loads`` (n, cells), shares of the source's capacity.

        Shape (n, targets). Room counts as larger by a few roundings: who is found may still lack it, who is not does.
        """
        amounts = loads * self._in_cells(self.loads.capacity[source])
        spare = self._spare()[targets]
        found = np.empty((len(amounts), len(spare)), bool)
        if len(amounts) < len(spare):
            for at, amount in enumerate(amounts):
                found[at] = np.all(amount <= spare, axis=1)
        else:
            for at, room in enumerate(spare):
                found[:, at] = np.all(amounts <= room, axis=1)
        return found

    def _spare(self) -> Floats:
        """The room of all shards, (S, cells), in the metrics' units; only that of shards whose loads changed is new."""
        room, of = self._known_room
        for shard in compress(range(len(of)), map(is_not, of, self.loads.levels)):
            of[shard] = self.loads.levels[shard]
            room[shard] = (self.room(shard) + 2 * ROUNDING) * self._in_cells(self.loads.capacity[shard])
        return room

    @cached_property
    def _known_room(self) -> tuple[Floats, list[Floats | None]]:
        """And the levels that it was reckoned from; trials share it."""
        shards, cells = len(self.loads.levels), len(self.view.metrics) * (self.view.steps + 1)
        return np.empty((shards, cells)), [None] * shards

    def _in_cells(self, of_resources: Floats) -> Floats:
        return np.concatenate([np.repeat(of_resources, self.view.steps), of_resources])

    def need(self, shard: int, ceiling: Floats) -> Floats:
        """By how much the shard stands above ``ceiling`` (R,), in the same cells; above the knee at present."""
        path = self.loads.path(shard) - ceiling[:, None]
        need = np.concatenate([path.ravel(), self.loads.current[shard] - self.policy.knee])
        return np.where(need > ROUNDING, need, 0.0)

    def parts(self, buckets: Indexes, shard: int) -> Floats:
        """The buckets' loads in the same cells if they lie on ``shard``, (n, cells)."""
        path = self.loads.of(buckets, shard)
        flat = path.reshape(len(buckets), path.shape[1] * path.shape[2])
        return np.concatenate([flat, self.loads.now_of(buckets, shard)], axis=1)

    @property
    def ceiling(self) -> Floats:
        """Under which a source must come, shape (R,)."""
        return np.full(len(self.view.metrics), self.policy.target_ceiling)

    # -- what may move ----------------------------------------------------------------------------------------

    @cached_property
    def _fixed(self) -> Mask:
        """Buckets that no plan moves: in a migration, or without a forecast."""
        names, view = self.view.buckets.names, self.view
        return np.array([name in view.moving or name in view.unknown for name in names], bool)

    @cached_property
    def _pin(self) -> Indexes:
        """The row of the shard that each bucket is pinned to, -1 without a pin."""
        rows = {name: row for row, name in enumerate(self.view.shards.names)}
        pinned = np.full(len(self.view.buckets.names), -1, np.intp)
        if self.policy.pins:
            for row, name in enumerate(self.view.buckets.names):
                pinned[row] = rows.get(self.policy.pins.get(name, ""), -1)
        return pinned

    @cached_property
    def apart(self) -> tuple[Indexes, ...]:
        """Sets of buckets, by row, no two of which may share a shard."""
        rows = {name: row for row, name in enumerate(self.view.buckets.names)} if self.policy.apart else {}
        return tuple(
            np.array(sorted(rows[name] for name in one if name in rows), np.intp) for one in self.policy.apart
        )

    def here(self, shard: int) -> Indexes:
        """The buckets of the shard that no migration moves, and no plan yet, by row."""
        on = self.loads.on(shard)
        settled = self.loads.shard[on] == self.loads.origin[on]
        found: Indexes = on[settled & ~self._fixed[on]]
        return found

    def movable(self, shard: int) -> Indexes:
        """Those of them that have rested and are not pinned there."""
        here = self.here(shard)
        rested = self.view.buckets.rested_s[here] >= self.policy.cooldown_s
        found: Indexes = here[rested & (self._pin[here] != shard)]
        return found

    def misplaced(self) -> Indexes:
        """Buckets that are not where they are pinned to."""
        settled = self.loads.shard == self.loads.origin
        away = (self._pin >= 0) & (self._pin != self.loads.shard) & settled & ~self._fixed
        return np.flatnonzero(away)

    def pin(self, bucket: int) -> int:
        """The row of the shard that it is pinned to, or -1."""
        return int(self._pin[bucket])

    def may_go(self, buckets: Indexes, target: int) -> Mask:
        """Which of them the target may get at all: pins, no way back so soon, not beside what they are apart from."""
        of = self.view.buckets
        pin = self._pin[buckets]
        back = (of.came_from[buckets] == target) & (of.rested_s[buckets] < self.policy.no_return_s)
        mask: Mask = ((pin < 0) | (pin == target)) & ~back
        for apart in self.apart:
            if (self.loads.shard[apart] == target).any():
                mask &= ~np.isin(buckets, apart)
        return mask

    def together(self, buckets: Indexes) -> bool:
        """Whether two of them must not share a shard."""
        return any(np.isin(buckets, apart).sum() > 1 for apart in self.apart)

    def clashing(self) -> list[tuple[str, str, str]]:
        """Pairs of buckets that are to be apart and share a shard, with the shard."""
        names, lies = self.view.buckets.names, self.loads.shard
        return [
            (names[row], names[other], self.name(int(lies[row])))
            for apart in self.apart
            for at, row in enumerate(apart)
            for other in apart[at + 1 :]
            if lies[row] == lies[other]
        ]

    # -- the order of targets -----------------------------------------------------------------------------------

    @cached_property
    def _ring(self) -> HashRing:
        """Weighted by capacity over the fleet's mean (the lowest resource), or by the policy."""
        capacity = self.loads.capacity
        weights = (capacity / capacity.mean(axis=0)).min(axis=1)
        return HashRing(
            {
                name: self.policy.shard_weights.get(name, float(weight))
                for name, weight in zip(self.view.shards.names, weights, strict=True)
            }
        )

    @cached_property
    def _row(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.view.shards.names)}

    def clockwise(self, bucket: int, targets: frozenset[int]) -> Iterator[int]:
        """The targets in the order met clockwise on the hash ring from the bucket's name."""
        order = (self._row[name] for name in self._ring.clockwise(self.view.buckets.names[bucket]))
        return (shard for shard in order if shard in targets)
