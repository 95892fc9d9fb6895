"""Emptying a shard that is being drained: as much of it at a time as one other shard has room for."""

from __future__ import annotations

from foreshard.forecast.band import Floats
from foreshard.planning.loads import FleetLoads
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.relief import NoRelief, PassedOver, Relief, clockwise, fits, target_limit
from foreshard.planning.view import BucketView


def find_evacuation(
    source: str,
    movable: tuple[BucketView, ...],
    free_targets: frozenset[str],
    loads: FleetLoads,
    policy: DecisionPolicy,
) -> Relief | NoRelief:
    """The target that can take most of the ``movable`` buckets, of equals the first clockwise from the busiest one.

    ``Relief.buckets`` are what it has room for, the busiest first; the next decision finds a place for the rest.
    """
    if not movable:
        return NoRelief(f"{source}: is drained, but every bucket left on it is moving already")
    if not free_targets:
        return NoRelief(f"{source}: is to be drained, but no shard is free to take a bucket")
    busiest = tuple(sorted(movable, key=lambda one: (-float(loads.bucket[one.name].max()), one.name)))
    limit = target_limit(loads, policy)
    taken = {
        target: _what_fits(target, busiest, limit, loads, policy)
        for target in clockwise(busiest[0].name, free_targets, loads)
    }
    best = max(taken, key=lambda target: len(taken[target]))  # of equals the first
    if not taken[best]:
        return NoRelief(f"{source}: is to be drained, but no shard has room for any bucket of it")
    passed = []
    for target, buckets in taken.items():
        if target == best:
            break
        passed.append(PassedOver(target, f"has room for {len(buckets)} of the {len(movable)} buckets only"))
    return Relief(source, best, taken[best], tuple(passed), limit)


def _what_fits(
    target: str, buckets: tuple[BucketView, ...], limit: Floats, loads: FleetLoads, policy: DecisionPolicy
) -> tuple[BucketView, ...]:
    chosen: list[BucketView] = []
    given = loads.nothing
    for bucket in buckets:
        if fits(target, given + loads.bucket[bucket.name], limit, loads, policy):
            chosen.append(bucket)
            given = given + loads.bucket[bucket.name]
    return tuple(chosen)
