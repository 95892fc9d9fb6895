"""What a move would cost and change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foreshard.planning.cost import MigrationCost, migration_cost
from foreshard.planning.fleet import Fleet
from foreshard.planning.plan import Effect
from foreshard.planning.prediction import Prediction, predict
from foreshard.planning.relief import Move
from foreshard.planning.risk import exceeding, level_score
from foreshard.planning.view import Floats


@dataclass(frozen=True)
class Assessment:
    """A move's cost and effects, and how long it is expected to take.

    ``risk_before`` is the source's score, ``risk_after`` the higher score of the two ends once the buckets have moved
    and the copy is over; both without the cost. ``latency_saved``: seconds per second, or service times per second
    where no latency was measured, at the step where it is most.
    """

    prediction: Prediction
    cost: MigrationCost
    effects: tuple[Effect, ...]
    risk_before: float
    risk_after: float
    latency_saved: float

    @property
    def peak_before(self) -> float:
        """The highest peak of both ends and all resources."""
        return max(one.peak_before for one in self.effects)

    @property
    def peak_after(self) -> float:
        """The same once it is done."""
        return max(one.peak_after for one in self.effects)


def assess(fleet: Fleet, move: Move, ceiling: Floats) -> Assessment:
    """Assess ``move`` on the fleet as it is planned so far. ``ceiling`` (R,): what the source is to come under."""
    view, loads, policy = fleet.view, fleet.loads, fleet.policy
    size = fleet.bytes(move.buckets)
    prediction = predict(fleet.name(move.source), fleet.name(move.target), size, view.rates, policy)
    later = fleet.trial()
    later.loads.move(move.buckets, move.target)
    ends = (move.source, move.target)
    peaks = np.stack([[of.levels[shard].max(axis=2).T for shard in ends] for of in (loads, later.loads)])
    current = np.stack([of.current[list(ends)] for of in (loads, later.loads)])
    exceeds = exceeding(peaks)[0] if policy.policy == "probabilistic" else None
    scores = level_score(peaks, current, policy).max(axis=2)
    effects = tuple(
        Effect(
            shard=fleet.name(shard),
            metric=metric,
            peak_before=float(peaks[0, end, row, loads.planned]),
            peak_after=float(peaks[1, end, row, loads.planned]),
            limit=float((ceiling if shard == move.source else move.limit)[row]),
            exceeds_before=None if exceeds is None else float(exceeds[0, end, row]),
            exceeds_after=None if exceeds is None else float(exceeds[1, end, row]),
        )
        for end, shard in enumerate(ends)
        for row, metric in enumerate(view.metrics)
    )
    return Assessment(
        prediction=prediction,
        cost=migration_cost(prediction, view.horizon_s, policy),
        effects=effects,
        risk_before=float(scores[0, 0]),
        risk_after=float(scores[1].max()),
        latency_saved=_latency_saved(fleet, later, move),
    )


def _latency_saved(fleet: Fleet, later: Fleet, move: Move) -> float:
    """Each bucket's queries/s times the change of its latency, which follows its shard's busiest resource."""

    def latency(of: Fleet, shard: int) -> Floats:
        return fleet.view.latency.latency(of.loads.path(shard).max(axis=0))

    queries = fleet.view.buckets.queries
    source, target = move.source, move.target
    going = queries[move.buckets].sum(axis=0)
    staying = queries[fleet.loads.on(source)].sum(axis=0) - going
    there = queries[fleet.loads.on(target)].sum(axis=0)
    saved = (
        staying * (latency(fleet, source) - latency(later, source))
        + going * (latency(fleet, source) - latency(later, target))
        - there * (latency(later, target) - latency(fleet, target))
    )
    return float(np.max(saved))
