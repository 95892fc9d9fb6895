"""Which buckets to move, and where: the search behind a plan.

Targets are asked in the order of the hash ring, clockwise from the bucket that gives the source the most
relief per byte. The first that can take enough buckets without passing its own limit is chosen (consistent
hashing with bounded loads, Mirrokni, Thorup and Zadimoghaddam 2016, with predicted peaks for loads).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from foreshard.forecast.band import Floats
from foreshard.planning.loads import FleetLoads
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.view import BucketView
from foreshard.topology.ring import HashRing

_ROUNDING = 1e-9  # so that a sum of parts is not above a ceiling by its last digit


@dataclass(frozen=True)
class PassedOver:
    """A shard that was asked before the target and cannot take enough."""

    shard: str
    why: str


@dataclass(frozen=True, eq=False)
class Relief:
    """Buckets whose move to ``target`` brings the source under its ceiling, none of which can be left out.

    ``limit`` is the target's, shape (resources,), in units of capacity.
    """

    source: str
    target: str
    buckets: tuple[BucketView, ...]
    passed_over: tuple[PassedOver, ...]
    limit: Floats

    @property
    def names(self) -> tuple[str, ...]:
        """The buckets' names, best relief per byte first."""
        return tuple(bucket.name for bucket in self.buckets)

    @property
    def bytes(self) -> int:
        """The buckets' size."""
        return sum(bucket.size_bytes for bucket in self.buckets)


@dataclass(frozen=True)
class NoRelief:
    """Why no move helps."""

    why: str


def find_relief(
    source: str,
    movable: tuple[BucketView, ...],
    free_targets: frozenset[str],
    loads: FleetLoads,
    policy: DecisionPolicy,
) -> Relief | NoRelief:
    """The move that relieves ``source`` of as many of its ``movable`` buckets as needed, to one of the
    targets.
    """
    if not movable:
        return NoRelief(
            f"{source}: every bucket is moving or has moved within {policy.cooldown_s / 3600:g} h"
        )
    if not free_targets:
        return NoRelief(f"{source}: no shard is free to take a bucket")
    best = _by_relief(source, movable, loads.nothing, loads, policy)[0]
    limit = target_limit(loads, policy)
    passed: list[PassedOver] = []
    for target in clockwise(best.name, free_targets, loads):
        chosen = _choose(source, target, movable, limit, loads, policy)
        if chosen:
            return Relief(source, target, chosen, tuple(passed), limit)
        passed.append(PassedOver(target, _why_not(source, target, movable, limit, loads, policy)))
    refusals = "; ".join(f"{one.shard} {one.why}" for one in passed)
    return NoRelief(f"{source}: no shard can take enough of it: {refusals}")


def copy_load(loads: FleetLoads, policy: DecisionPolicy) -> Floats:
    """The running copy's load on the target in units of capacity, taken for the whole horizon."""
    return np.full_like(loads.nothing, policy.copy_load)


def clockwise(start: str, targets: frozenset[str], loads: FleetLoads) -> Iterator[str]:
    """The free targets in ring order, weighted by capacity over the fleet's mean (the lowest resource)."""
    mean = np.mean(list(loads.capacity.values()), axis=0)
    weights = {shard: float((capacity / mean).min()) for shard, capacity in loads.capacity.items()}
    return (shard for shard in HashRing(weights).clockwise(start) if shard in targets)


def target_limit(loads: FleetLoads, policy: DecisionPolicy) -> Floats:
    """What a target's peak may reach with the copy's load included: its bounded share, at most the ceiling.

    A resource of which the whole fleet uses little needs no balance, so the bounded share counts as at least
    ``balance_above``. Shape (resources,), units of capacity.
    """
    bounded = np.maximum((1.0 + policy.epsilon) * loads.fair_share(), policy.balance_above)
    limit: Floats = np.minimum(bounded, policy.target_ceiling)
    return limit


def _excess(source: str, taken: Floats, loads: FleetLoads, policy: DecisionPolicy) -> float:
    """How far the source stands above its ceiling, summed over resources and steps."""
    over = loads.utilisation(source, taken, loads.nothing) - policy.target_ceiling
    return float(np.where(over > _ROUNDING, over, 0.0).sum())


def _by_relief(
    source: str, buckets: tuple[BucketView, ...], taken: Floats, loads: FleetLoads, policy: DecisionPolicy
) -> list[BucketView]:
    """The buckets, most relief per byte first when moved on top of ``taken``; equals by name."""
    before = _excess(source, taken, loads, policy)

    def per_byte(bucket: BucketView) -> float:
        after = _excess(source, taken + loads.bucket[bucket.name], loads, policy)
        return (before - after) / max(bucket.size_bytes, 1)

    return sorted(buckets, key=lambda bucket: (-per_byte(bucket), bucket.name))


def fits(target: str, given: Floats, limit: Floats, loads: FleetLoads, policy: DecisionPolicy) -> bool:
    """Whether the target stays within its limit with that load on top, and with the copy running."""
    after = loads.utilisation(target, loads.nothing, given) + copy_load(loads, policy)
    return bool((after <= limit[:, None] + _ROUNDING).all())


def _choose(
    source: str,
    target: str,
    movable: tuple[BucketView, ...],
    limit: Floats,
    loads: FleetLoads,
    policy: DecisionPolicy,
) -> tuple[BucketView, ...]:
    """The best relief per byte that the target can still take, again and again; empty if it is not enough."""
    chosen: list[BucketView] = []
    left = list(movable)
    taken = loads.nothing
    while _excess(source, taken, loads, policy) > 0:
        room = [one for one in left if fits(target, taken + loads.bucket[one.name], limit, loads, policy)]
        if not room:
            return ()
        pick = _by_relief(source, tuple(room), taken, loads, policy)[0]
        chosen.append(pick)
        left.remove(pick)
        taken = taken + loads.bucket[pick.name]
    return _without_needless(source, chosen, loads, policy)


def _without_needless(
    source: str, chosen: list[BucketView], loads: FleetLoads, policy: DecisionPolicy
) -> tuple[BucketView, ...]:
    """Leave out what later picks have made needless, the largest first.

    One pass is enough: with fewer buckets moved, a bucket that was needed stays needed.
    """
    needed = list(chosen)
    for bucket in sorted(chosen, key=lambda one: (-one.size_bytes, one.name)):
        others = tuple(one.name for one in needed if one is not bucket)
        if _excess(source, loads.total(others), loads, policy) == 0:
            needed.remove(bucket)
    return tuple(needed)


def _why_not(
    source: str,
    target: str,
    movable: tuple[BucketView, ...],
    limit: Floats,
    loads: FleetLoads,
    policy: DecisionPolicy,
) -> str:
    everything = loads.total(tuple(bucket.name for bucket in movable))
    if _excess(source, everything, loads, policy) > 0:
        return f"would not be enough even if it took all {len(movable)} buckets that may move"
    own = loads.utilisation(target, loads.nothing, loads.nothing) + copy_load(loads, policy)
    room = limit - own.max(axis=1)
    tightest = int(room.argmin())
    return (
        f"peaks at {own[tightest].max():.2f} of its {loads.metrics[tightest]} with the copy running, "
        f"limit {limit[tightest]:.2f}"
    )
