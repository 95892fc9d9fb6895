"""What a move would cost and change."""

from __future__ import annotations

from dataclasses import dataclass

from foreshard.forecast.band import Floats
from foreshard.forecast.series import STEP
from foreshard.planning.cost import MigrationCost, migration_cost
from foreshard.planning.latency import stretch
from foreshard.planning.loads import FleetLoads
from foreshard.planning.plan import Effect
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.prediction import Prediction, predict
from foreshard.planning.relief import Relief, copy_load
from foreshard.planning.risk import score
from foreshard.planning.view import BucketView, FleetView


@dataclass(frozen=True)
class Assessment:
    """A move's cost and effects, and how long it is expected to take.

    ``risk_after`` is the higher score of the two ends once the buckets have moved and the copy is over,
    without the cost. ``latency_saved`` is in service times saved per second, at the step where it is most.
    """

    prediction: Prediction
    cost: MigrationCost
    effects: tuple[Effect, ...]
    risk_after: float
    latency_saved: float

    @property
    def gain(self) -> float:
        """By how much the highest peak of both ends and all resources falls, in units of capacity."""
        return max(one.peak_before for one in self.effects) - max(one.peak_after for one in self.effects)


def assess(view: FleetView, relief: Relief, loads: FleetLoads, policy: DecisionPolicy) -> Assessment:
    """Assess ``relief``, a move within ``view`` whose predicted loads are ``loads``."""
    moved, nothing = loads.total(relief.names), loads.nothing
    after = {
        relief.source: loads.utilisation(relief.source, moved, nothing),
        relief.target: loads.utilisation(relief.target, nothing, moved),
    }
    horizon_s = nothing.shape[1] * STEP.total_seconds()
    prediction = predict(relief.source, relief.target, relief.bytes, view.rates, policy)
    return Assessment(
        prediction=prediction,
        cost=migration_cost(prediction, horizon_s, policy),
        effects=_effects(relief, after, loads, policy),
        risk_after=_risk_after(view, relief, after, loads, policy),
        latency_saved=_latency_saved(view, relief, after, loads),
    )


def _effects(
    relief: Relief, after: dict[str, Floats], loads: FleetLoads, policy: DecisionPolicy
) -> tuple[Effect, ...]:
    limits = {
        relief.source: [policy.target_ceiling] * len(relief.limit),
        relief.target: relief.limit.tolist(),
    }
    with_copy = after | {relief.target: after[relief.target] + copy_load(loads, policy)}
    return tuple(
        Effect(
            shard=shard,
            metric=metric,
            peak_before=float(_before(loads, shard)[row].max()),
            peak_after=float(with_copy[shard][row].max()),
            limit=limits[shard][row],
        )
        for shard in (relief.source, relief.target)
        for row, metric in enumerate(loads.metrics)
    )


def _risk_after(
    view: FleetView, relief: Relief, after: dict[str, Floats], loads: FleetLoads, policy: DecisionPolicy
) -> float:
    current = {shard.name: shard.current for shard in view.shards}
    here = float(_activity(view.on(relief.source), loads)[0])
    part = float(_activity(relief.buckets, loads)[0]) / here if here > 0 else 0.0
    scores = []
    for shard, sign in ((relief.source, -1.0), (relief.target, 1.0)):
        for row, metric in enumerate(loads.metrics):
            capacity = float(loads.capacity[shard][row, 0])
            # The present load moves with the buckets' part of the present activity.
            present = max(current[shard][metric] + sign * part * current[relief.source][metric], 0.0)
            predicted = float(after[shard][row].max()) * capacity
            scores.append(score(predicted, present, capacity, 0.0, policy))
    return max(scores)


def _latency_saved(view: FleetView, relief: Relief, after: dict[str, Floats], loads: FleetLoads) -> float:
    """Each bucket's queries/s times the change of its stretch, which follows its shard's busiest resource."""
    source, target = relief.source, relief.target
    before = {shard: stretch(_before(loads, shard).max(axis=0)) for shard in (source, target)}
    later = {shard: stretch(after[shard].max(axis=0)) for shard in (source, target)}
    going = _activity(relief.buckets, loads)
    staying = _activity(view.on(source), loads) - going
    there = _activity(view.on(target), loads)
    saved = (
        staying * (before[source] - later[source])
        + going * (before[source] - later[target])
        - there * (later[target] - before[target])
    )
    return float(saved.max())


def _before(loads: FleetLoads, shard: str) -> Floats:
    return loads.utilisation(shard, loads.nothing, loads.nothing)


def _activity(buckets: tuple[BucketView, ...], loads: FleetLoads) -> Floats:
    """Median queries/s of the buckets together, shape (steps,)."""
    return sum((bucket.band.at(0.5) for bucket in buckets), start=loads.nothing[0])
