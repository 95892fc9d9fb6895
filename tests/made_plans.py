"""Plans and decisions made by hand, for tests of how they are told, drawn and compared."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from foreshard.planning.cost import MigrationCost
from foreshard.planning.plan import Decision, Effect, MigrationPlan, Purpose, Question, Reason
from foreshard.planning.prediction import Prediction
from foreshard.planning.risk import ResourceRisk, ShardRisk
from foreshard.planning.timeline import Timeline

NOW = datetime(2013, 11, 27, 15, 10, tzinfo=UTC)
EXCESS = datetime(2013, 11, 27, 18, tzinfo=UTC)
RATE = "queries_per_s"

PREDICTION = Prediction(
    bytes=39_000_000, copy_s=2.0, index_s=0.0, catch_up_s=10.0, verify_s=1.0, soak_s=227.0, margin_s=600.0,
    pause_ms=50.0, rates=("copy 20 MB/s (the policy's number, nothing is learnt yet)",),
)  # fmt: skip
COST = MigrationCost(copy=0.0005, wal=0.0001, network=0.0001, pause=0.00001, operator=0.002)
REASONS = tuple(Reason(question, f"Told: {question.value}.", {"one": 1.0}) for question in Question)


def made_plan(
    source: str = "shard-3",
    target: str = "shard-4",
    buckets: int | tuple[str, ...] = 5,
    *,
    start: datetime = NOW,
    **more: Any,
) -> MigrationPlan:
    """A relief of ``source`` that is predicted to go well; ``more`` replaces any field."""
    fields: dict[str, Any] = {
        "source": source,
        "target": target,
        "buckets": tuple(f"b{number:04}" for number in range(buckets)) if isinstance(buckets, int) else buckets,
        "timeline": Timeline(
            not_before=start, start_by=EXCESS - timedelta(seconds=PREDICTION.total_s), excess_at=EXCESS,
            predicted_s=PREDICTION.total_s, predicted_pause_ms=50.0, why="load is least then",
        ),
        "bytes": 39_000_000,
        "cost": COST,
        "priority": 1.25,
        "risk_before": 0.62,
        "risk_after": 0.01,
        "effects": (
            Effect(source, RATE, 1.21, 0.846, 0.85, 0.62, 0.01),
            Effect(source, "cpu_cores", 0.71, 0.52, 0.85, 0.0, 0.0),
            Effect(target, RATE, 0.4, 0.77, 0.85, 0.0, 0.004),
            Effect(target, "cpu_cores", 0.3, 0.49, 0.85, 0.0, 0.0),
        ),
        "reasons": REASONS,
        "prediction": PREDICTION,
    }  # fmt: skip
    return MigrationPlan(**(fields | more))


def made_risk(shard: str, peak: float, exceeds: float | None = None, *, now: float = 0.5) -> ShardRisk:
    """The score is P(exceed), or the excess."""
    score = max(0.0, peak - 1) if exceeds is None else exceeds
    excess_at = EXCESS if peak > 1 else None
    busy = ResourceRisk(
        RATE, now * 100, peak * 100, 100.0, now, peak, score, excess_at, exceeds, None if exceeds is None else 0.05
    )  # fmt: skip
    calm = ResourceRisk("cpu_cores", 1.0, 2.0, 8.0, 0.125, 0.25, 0.0, None, None if exceeds is None else 0.0)
    return ShardRisk(shard, score, 0.0, RATE, (calm, busy), excess_at)


def made_decision(*plans: MigrationPlan, **more: Any) -> Decision:
    """Four shards, of which shard-3 is at risk."""
    fields: dict[str, Any] = {
        "decided_at": NOW,
        "risks": (
            made_risk("shard-1", 0.6, 0.01), made_risk("shard-2", 0.5, 0.0), made_risk("shard-3", 1.21, 0.62),
            made_risk("shard-4", 0.4, 0.0),
        ),
        "plans": plans,
        "notes": ("shard-1: would move, but its buckets moved an hour ago",),
        "max_utilisation": 0.5,
        "reactive_threshold": 0.8,
    }  # fmt: skip
    return Decision(**(fields | more))


def drained(plan: MigrationPlan) -> dict[str, Any]:
    """Fields of a plan like it that has no deadline and is for a drain."""
    when = plan.timeline
    return {
        "purpose": Purpose.DRAIN,
        "timeline": Timeline(when.not_before, when.not_before, None, when.predicted_s, 50.0),
    }
