"""Moves that a person asked for: emptying a shard that is being drained, bringing buckets where they are pinned to."""

from __future__ import annotations

import numpy as np

from foreshard.planning.fleet import ROUNDING, Fleet
from foreshard.planning.relief import Move, NoMove, PassedOver
from foreshard.planning.view import Floats, Indexes


def find_evacuation(fleet: Fleet, source: int, targets: frozenset[int]) -> tuple[Move, ...] | NoMove:
    """Moves that empty ``source``: again and again to the target that has room for most of what is left.

    Of equal targets the first clockwise from the busiest bucket. Only the source's own buckets move, each once. If the
    fleet has too little room for all, what there is room for goes.
    """
    name, left = fleet.name(source), fleet.here(source)
    if not len(left):
        return NoMove(f"{name}: is drained, but every bucket left on it is moving already")
    if not targets:
        return NoMove(f"{name}: is to be drained, but no shard is free to take a bucket", lacks_room=True)
    trial = fleet.trial()
    busiest = trial.parts(left, source).max(axis=1)
    left = left[np.argsort(-busiest, kind="stable")]
    moves: list[Move] = []
    while len(left):
        move = _largest(trial, source, left, targets)
        if move is None:
            break
        moves.append(move)
        trial.loads.move(move.buckets, move.target)
        left = left[~np.isin(left, move.buckets)]
    if not moves:
        return NoMove(
            f"{name}: is to be drained, but no shard has room for any bucket of it", lacks_room=True
        )
    return tuple(moves)


def find_pinned(fleet: Fleet, targets: frozenset[int]) -> tuple[tuple[Move, ...], tuple[str, ...]]:
    """Moves that bring buckets to the shards they are pinned to, and notes of what there is no room for."""
    moves: list[Move] = []
    notes: list[str] = []
    away = fleet.misplaced()
    for source in np.unique(fleet.loads.shard[away]):
        here = away[fleet.loads.shard[away] == source]
        pins = np.array([fleet.pin(int(row)) for row in here])
        for target in np.unique(pins):
            of = here[pins == target]
            fits = _what_fits(fleet, of, int(target)) if target in targets else of[:0]
            if len(fits):
                moves.append(Move(int(source), int(target), fits, fleet.limit))
            if len(fits) < len(of):
                left = ", ".join(fleet.names(of[~np.isin(of, fits)]))
                notes.append(f"{left}: pinned to {fleet.name(int(target))}, which has no room or is not free")
    return tuple(moves), tuple(notes)


def _largest(fleet: Fleet, source: int, left: Indexes, targets: frozenset[int]) -> Move | None:
    best: tuple[int, Indexes] | None = None
    passed: list[tuple[int, int]] = []
    for target in fleet.clockwise(int(left[0]), targets):
        fits = _what_fits(fleet, left, target)
        if best is None or len(fits) > len(best[1]):
            best = target, fits
        if len(fits) == len(left):
            break
        passed.append((target, len(fits)))
    if best is None or not len(best[1]):
        return None
    before = []
    for target, count in passed:
        if target == best[0]:
            break
        before.append(PassedOver(fleet.name(target), f"has room for {count} of the {len(left)} buckets only"))
    return Move(source, best[0], best[1], fleet.limit, tuple(before[:3]), max(0, len(before) - 3))


def _what_fits(fleet: Fleet, buckets: Indexes, target: int) -> Indexes:
    """The buckets that the target has room for, asked in their order."""
    room: Floats = fleet.room(target)
    chosen: list[int] = []
    may, parts = fleet.may_go(buckets, target), fleet.parts(buckets, target)
    for at, row in enumerate(buckets):
        fits = may[at] and (parts[at] <= room + ROUNDING).all()
        if fits and not fleet.together(np.array([*chosen, row], np.intp)):
            chosen.append(int(row))
            room = room - parts[at]
    return np.array(chosen, np.intp)
