"""Bytes that the search moves, against the fewest that an integer program finds for the same fleet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.planner_fleets import made_up
from foreshard.planning.exact import exact_moves
from foreshard.planning.fleet import Fleet
from foreshard.planning.plan import Decision, Purpose
from foreshard.planning.planner import decide
from foreshard.planning.policy import DecisionPolicy


@dataclass(frozen=True)
class Compared:
    """Bytes of the search and of the integer program; the latter ``None`` where it found nothing within its limits."""

    ours: int
    fewest: int | None

    @property
    def ratio(self) -> float | None:
        """How many times the fewest."""
        return self.ours / self.fewest if self.fewest else None


def compared(shards: int, buckets: int, seed: int, with_room: bool) -> Compared | None:
    """On one made-up fleet, for the shards that the search relieved; None if it left one at risk.

    ``with_room``: the integer program keeps to the targets' room; without it finds a bound, which no plan may reach.
    """
    view, policy = made_up(shards, buckets, seed), DecisionPolicy(planner="greedy")
    fleet = Fleet.of(view, policy)
    risky = [row for row in range(shards) if fleet.risk(row).score > policy.migration_threshold]
    decision = decide(view, policy)
    if {plan.source for plan in decision.plans} != {fleet.name(row) for row in risky} or decision.shortage:
        return None
    moves = _fewest(fleet, risky, with_room)
    sizes = view.buckets.size_bytes
    return Compared(
        _bytes(decision), None if moves is None else int(sum(sizes[bucket] for bucket, _ in moves))
    )


def _bytes(decision: Decision) -> int:
    return sum(plan.bytes for plan in decision.plans if plan.purpose is Purpose.RELIEF)


def _fewest(fleet: Fleet, risky: list[int], with_room: bool) -> list[tuple[int, int]] | None:
    policy, shape = fleet.policy, fleet.loads.path(0).shape
    movable = {row: fleet.movable(row) for row in risky}
    others = [row for row in range(len(fleet.view.shards.names)) if row not in set(risky)]
    room = {row: np.maximum(fleet.limit[:, None] - fleet.loads.path(row), 0.0) for row in others}
    knee = policy.knee
    if not with_room:
        room, knee = {others[0]: np.full(shape, np.inf)}, np.inf
    return exact_moves(
        fleet.loads,
        fleet.view.buckets.size_bytes,
        movable,
        policy.target_ceiling,
        room,
        lambda *_: True,
        knee=knee,
    )
