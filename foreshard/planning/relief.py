"""Which buckets to move, and where: the search behind a plan.

Targets are asked in the order of the hash ring, clockwise from the bucket that gives the source the most
relief per byte. The first that can take enough buckets without passing its own limit is chosen (consistent
hashing with bounded loads, Mirrokni, Thorup and Zadimoghaddam 2016, with predicted peaks for loads).
Where none can, the buckets go to several; where all together cannot, as much goes as there is room for.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foreshard.planning.cover import cover
from foreshard.planning.fitting import Fitting
from foreshard.planning.fleet import ROUNDING, Fleet
from foreshard.planning.view import Floats, Indexes, Sizes

ASKED = 100
"""So many shards are asked whether they can take the fewest bytes."""

DEARER = 1.05
"""So many times the fewest bytes are moved to keep to one target, and one plan."""

TOLD = 3
"""So many shards that were passed over are told of, each with its reason."""


@dataclass(frozen=True)
class PassedOver:
    """A shard that was asked before the target and cannot take enough."""

    shard: str
    why: str


@dataclass(frozen=True, eq=False)
class Move:
    """Buckets that go from ``source`` to ``target`` in one plan (rows); of a relief none can be left out.

    ``limit`` (R,): what the target's peak may reach, in units of capacity. ``passed_over`` and ``more_passed``: the
    shards that come before the target on the ring, the first of them with reasons, and how many more. ``exact``: chosen
    by the exact planner, with the least bytes of all.
    """

    source: int
    target: int
    buckets: Indexes
    limit: Floats
    passed_over: tuple[PassedOver, ...] = ()
    more_passed: int = 0
    exact: bool = False


@dataclass(frozen=True)
class NoMove:
    """Why no move helps. ``lacks_room``: there is too little of it in the fleet, and not only a rule in the way."""

    why: str
    lacks_room: bool = False


def find_relief(
    fleet: Fleet, source: int, targets: frozenset[int], ceiling: Floats
) -> tuple[Move, ...] | NoMove:
    """The moves that bring ``source`` under ``ceiling`` (R,), or as near as there is room for; at most one a target."""
    name, movable = fleet.name(source), fleet.movable(source)
    if not len(movable):
        return NoMove(
            f"{name}: every bucket is pinned, is moving or has moved within {fleet.policy.cooldown_s / 3600:g} h"
        )
    if not targets:
        return NoMove(f"{name}: no shard is free to take a bucket", lacks_room=True)
    need = fleet.need(source, ceiling)
    if not (need > 0).any():
        return NoMove(f"{name}: is at risk, but its planned load is under the ceiling: nothing to relieve")
    parts = fleet.parts(movable, source)
    enough = bool((parts.sum(axis=0) >= need - ROUNDING).all())
    first = int(movable[_by_relief(parts, need, fleet.view.buckets.size_bytes[movable])[0]])
    possible = np.array(sorted(targets), np.intp)
    possible = possible[fleet.could_take(parts.min(axis=0)[None], source, possible)[0]]
    if len(possible):  # else no search finds room for even one bucket
        if enough and (moves := _at_few_bytes(fleet, source, first, movable, parts, need, targets)):
            return moves
        if moves := _to_several(fleet, source, movable, parts, need, possible):
            return moves
    return NoMove(f"{name}: no shard can take any of it: {_refusals(fleet, first, targets)}", lacks_room=True)


def _by_relief(parts: Floats, need: Floats, sizes: Sizes) -> Indexes:
    """Positions of the buckets, most relief per byte first; equals in their order."""
    cells = need > 0
    relief = np.minimum(parts[:, cells], need[cells]).sum(axis=1) / np.maximum(sizes, 1)
    return np.argsort(-relief, kind="stable")


def _at_few_bytes(
    fleet: Fleet,
    source: int,
    first: int,
    movable: Indexes,
    parts: Floats,
    need: Floats,
    targets: frozenset[int],
) -> tuple[Move, ...]:
    """To the first target clockwise that can take the fewest bytes; if none can, the first that can take enough.

    Where that means more bytes by more than ``DEARER``, to several targets that can take the fewest together.
    """
    sizes = fleet.view.buckets.size_bytes[movable]
    order = list(itertools.islice(fleet.clockwise(first, targets), ASKED))
    found = cover(parts, need, sizes)
    if found is None:
        return ()
    fewest = movable[found]
    could = fleet.could_take(parts[found].sum(axis=0)[None], source, np.array(order))[0]
    for at in np.flatnonzero(could).tolist():
        if _all_fit(fleet, target := order[at], fewest):
            return (Move(source, target, fewest, fleet.limit, *_passed(fleet, order[:at])),)
    one: tuple[Move, ...] = ()
    for at in np.flatnonzero(fleet.could_take(need[None], source, np.array(order))[0]).tolist():
        room = fleet.room(target := order[at])
        if room.min() > 0:
            chosen = _cover(fleet, target, movable, parts, need, sizes, room)
            if chosen is not None:
                one = (Move(source, target, chosen, fleet.limit, *_passed(fleet, order[:at])),)
                break
    if one and fleet.bytes(one[0].buckets) <= DEARER * fleet.bytes(fewest):
        return one
    return _spread(fleet, source, fewest, order) or one


def _spread(fleet: Fleet, source: int, buckets: Indexes, targets: Sequence[int]) -> tuple[Move, ...]:
    """All of them, again and again to the target that has room for most of what is left; nothing if some stay."""
    busiest = fleet.parts(buckets, source).max(axis=1)
    left = buckets[np.argsort(-busiest, kind="stable")]
    fitting = Fitting(fleet, source, buckets, targets)
    moves: list[Move] = []
    while len(left):
        target, fits = fitting.most(left)
        if not len(fits):
            return ()
        going = buckets[np.isin(buckets, fits)]
        moves.append(Move(source, target, going, fleet.limit))
        fitting.leave_out(target)
        left = left[~np.isin(left, going)]
    return tuple(moves)


def _all_fit(fleet: Fleet, target: int, buckets: Indexes) -> bool:
    if not fleet.may_go(buckets, target).all() or fleet.together(buckets):
        return False
    return bool((fleet.parts(buckets, target).sum(axis=0) <= fleet.room(target) + ROUNDING).all())


def _passed(fleet: Fleet, targets: Sequence[int]) -> tuple[tuple[PassedOver, ...], int]:
    told = tuple(PassedOver(fleet.name(one), _why_not(fleet, one, fleet.room(one))) for one in targets[:TOLD])
    return told, len(targets) - len(told)


def _cover(
    fleet: Fleet, target: int, movable: Indexes, parts: Floats, need: Floats, sizes: Sizes, room: Floats
) -> Indexes | None:
    may = np.flatnonzero(fleet.may_go(movable, target))
    while len(may):
        brings = fleet.parts(movable[may], target)
        chosen = cover(parts[may], need, sizes[may], room, brings)
        if chosen is None:
            return None
        rows = movable[may][chosen]
        clash = [at for at in range(1, len(rows)) if fleet.together(rows[: at + 1])]
        if not clash:
            return rows
        may = np.delete(may, chosen[clash])  # apart from one that was chosen before it
    return None


def _to_several(
    fleet: Fleet, source: int, movable: Indexes, parts: Floats, need: Floats, targets: Indexes
) -> tuple[Move, ...]:
    """Bucket by bucket, the best relief per byte first, each to the first target clockwise that has room for it."""
    trial, sizes = fleet.trial(), fleet.view.buckets.size_bytes[movable]
    could = fleet.could_take(parts, source, targets)
    left, missing = np.flatnonzero(could.any(axis=1)), need
    taken: dict[int, list[int]] = {}
    while len(left) and (missing > 0).any():
        ranked = left[_by_relief(parts[left], missing, sizes[left])]
        helpful = ranked[(parts[np.ix_(ranked, missing > 0)] > 0).any(axis=1)]
        asked: list[int] = []
        for at in helpful.tolist():
            asked.append(at)
            target = _first_with_room(trial, int(movable[at]), frozenset(targets[could[at]].tolist()))
            if target is not None:
                break
        else:
            break
        trial.loads.move(movable[[at]], target)
        taken.setdefault(target, []).append(int(movable[at]))
        missing = np.where(missing - parts[at] > ROUNDING, missing - parts[at], 0.0)
        could[:, targets == target] = trial.could_take(parts, source, np.array([target]))
        could[asked] = False
        left = left[could[left].any(axis=1)]
    needed = _needed(fleet, source, [row for rows in taken.values() for row in rows], need)
    moves = {target: [row for row in rows if row in needed] for target, rows in taken.items()}
    return tuple(
        Move(source, target, np.array(rows, np.intp), fleet.limit) for target, rows in moves.items() if rows
    )


def _first_with_room(fleet: Fleet, bucket: int, targets: frozenset[int]) -> int | None:
    one = np.array([bucket])
    for target in fleet.clockwise(bucket, targets):
        fits = (fleet.parts(one, target)[0] <= fleet.room(target) + ROUNDING).all()
        if fits and fleet.may_go(one, target)[0]:
            return target
    return None


def _needed(fleet: Fleet, source: int, chosen: list[int], need: Floats) -> set[int]:
    """Those that cannot be left out, the largest being asked first; all of them if they are not enough together."""
    rows = np.array(chosen, np.intp)
    parts = fleet.parts(rows, source)
    total = parts.sum(axis=0)
    kept = set(chosen)
    for at in np.lexsort((rows, -fleet.view.buckets.size_bytes[rows])):
        if (total - parts[at] >= need - ROUNDING).all():
            total = total - parts[at]
            kept.discard(int(rows[at]))
    return kept


def _why_not(fleet: Fleet, target: int, room: Floats) -> str:
    tightest = int(room.argmin())
    path = fleet.loads.path(target)
    if tightest >= path.size:
        metric = fleet.view.metrics[tightest - path.size]
        now = fleet.loads.current[target, tightest - path.size]
        return f"uses {now:.2f} of its {metric} now, and takes nothing above {fleet.policy.knee:.2f}"
    row = tightest // path.shape[1]
    return (
        f"has no room for it: it peaks at {path[row].max():.2f} of its {fleet.view.metrics[row]} already, its limit is "
        f"{fleet.limit[row]:.2f}"
    )


def _refusals(fleet: Fleet, first: int, targets: frozenset[int]) -> str:
    order = itertools.islice(fleet.clockwise(first, targets), TOLD)
    told = [f"{fleet.name(one)} {_why_not(fleet, one, fleet.room(one))}" for one in order]
    if len(targets) > TOLD:
        told.append(f"and so for {len(targets) - TOLD} more")
    return "; ".join(told)
