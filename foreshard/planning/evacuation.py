"""Moves that a person asked for: emptying a shard that is being drained, bringing buckets where they are pinned to."""

from __future__ import annotations

import numpy as np

from foreshard.planning.fitting import Fitting, what_fits
from foreshard.planning.fleet import Fleet
from foreshard.planning.relief import TOLD, Move, NoMove, PassedOver
from foreshard.planning.view import Indexes


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
            fits = what_fits(fleet, int(target), of) if target in targets else of[:0]
            if len(fits):
                moves.append(Move(int(source), int(target), fits, fleet.limit))
            if len(fits) < len(of):
                left = ", ".join(fleet.names(of[~np.isin(of, fits)]))
                notes.append(f"{left}: pinned to {fleet.name(int(target))}, which has no room or is not free")
    return tuple(moves), tuple(notes)


def _largest(fleet: Fleet, source: int, left: Indexes, targets: frozenset[int]) -> Move | None:
    order = list(fleet.clockwise(int(left[0]), targets))
    target, fits = Fitting(fleet, source, left, order).most(left)
    if not len(fits):
        return None
    before = order[: order.index(target)]
    told = tuple(
        PassedOver(
            fleet.name(one),
            f"has room for {len(what_fits(fleet, one, left))} of the {len(left)} buckets only",
        )
        for one in before[:TOLD]
    )
    return Move(source, target, fits, fleet.limit, told, len(before) - len(told))
