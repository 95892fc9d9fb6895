"""What differs between two plans, or between two decisions, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter

from foreshard.planning.plan import Decision, MigrationPlan
from foreshard.planning.risk import ShardRisk

K = TypeVar("K")


@dataclass(frozen=True)
class Move:
    """A bucket goes from ``source`` to ``target``."""

    bucket: str
    source: str
    target: str


@dataclass(frozen=True)
class MoveChange:
    """The same bucket is moved by both, but otherwise."""

    before: Move
    after: Move


@dataclass(frozen=True)
class RiskChange:
    """A shard's score, highest predicted peak (of capacity) and highest P(exceed) in both; None: not known."""

    shard: str
    score_before: float | None
    score_after: float | None
    peak_before: float | None
    peak_after: float | None
    exceeds_before: float | None
    exceeds_after: float | None


@dataclass(frozen=True)
class FieldChange:
    """A named value that differs; None where the one side has none."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Comparison:
    """Of two plans or two decisions, the older one first. ``kept``: how many buckets both move alike.

    ``risks``: of decisions, every shard of either; of plans, their ends. ``policy``: fields whose values differ.
    ``values``: of plans, their times, cost, priority and size; of decisions, when they were made and how busy the fleet
    was.
    """

    added: tuple[Move, ...]
    gone: tuple[Move, ...]
    changed: tuple[MoveChange, ...]
    kept: int
    risks: tuple[RiskChange, ...]
    policy: tuple[FieldChange, ...]
    values: tuple[FieldChange, ...]

    @property
    def same_moves(self) -> bool:
        """Whether both move the same buckets alike."""
        return not (self.added or self.gone or self.changed)

    def to_json(self) -> dict[str, Any]:
        """As JSON-ready values."""
        stored: dict[str, Any] = _COMPARISON.dump_python(self, mode="json")
        return stored


_COMPARISON = TypeAdapter(Comparison)


def compare_plans(
    before: MigrationPlan,
    after: MigrationPlan,
    policy_before: Mapping[str, Any] | None = None,
    policy_after: Mapping[str, Any] | None = None,
) -> Comparison:
    """What ``after`` does otherwise than ``before``. The policies are those that they were made by."""
    ends = sorted({before.source, before.target, after.source, after.target})
    risks = tuple(_of_end(shard, before, after) for shard in ends)
    return _comparison(
        [before], [after], risks, _changes(policy_before, policy_after), _plan_values(before, after)
    )


def compare_decisions(
    before: Decision,
    after: Decision,
    policy_before: Mapping[str, Any] | None = None,
    policy_after: Mapping[str, Any] | None = None,
) -> Comparison:
    """What ``after`` says otherwise than ``before``."""
    of_before, of_after = ({risk.shard: risk for risk in one.risks} for one in (before, after))
    risks = tuple(
        _of_shard(shard, of_before.get(shard), of_after.get(shard))
        for shard in sorted(of_before.keys() | of_after.keys())
    )
    values = _changes(
        *(
            {"decided_at": one.decided_at, "max_utilisation": one.max_utilisation, "plans": len(one.plans)}
            for one in (before, after)
        )
    )
    return _comparison(before.plans, after.plans, risks, _changes(policy_before, policy_after), values)


def _comparison(
    before: Sequence[MigrationPlan],
    after: Sequence[MigrationPlan],
    risks: tuple[RiskChange, ...],
    policy: tuple[FieldChange, ...],
    values: tuple[FieldChange, ...],
) -> Comparison:
    first, second = _moves(before), _moves(after)
    both = sorted(first.keys() & second.keys())
    return Comparison(
        added=tuple(second[bucket] for bucket in sorted(second.keys() - first.keys())),
        gone=tuple(first[bucket] for bucket in sorted(first.keys() - second.keys())),
        changed=tuple(MoveChange(first[one], second[one]) for one in both if first[one] != second[one]),
        kept=sum(first[one] == second[one] for one in both),
        risks=risks,
        policy=policy,
        values=values,
    )


def _moves(plans: Sequence[MigrationPlan]) -> dict[str, Move]:
    return {bucket: Move(bucket, plan.source, plan.target) for plan in plans for bucket in plan.buckets}


def _plan_values(before: MigrationPlan, after: MigrationPlan) -> tuple[FieldChange, ...]:
    return _changes(
        *(
            {
                "source": one.source, "target": one.target, "purpose": one.purpose.value,
                "buckets": len(one.buckets), "bytes": one.bytes, "not_before": one.timeline.not_before,
                "start_by": one.timeline.start_by, "excess_at": one.excess_at,
                "predicted_s": one.timeline.predicted_s, "risk_before": one.risk_before, "risk_after": one.risk_after,
                "cost": one.cost.total, "priority": one.priority,
            }
            for one in (before, after)
        )
    )  # fmt: skip


def _changes(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> tuple[FieldChange, ...]:
    """In the order of the fields; nothing where one side is not known at all."""
    if not before or not after:
        return ()
    fields = [*before, *(field for field in after if field not in before)]
    return tuple(
        FieldChange(field, before.get(field), after.get(field))
        for field in fields
        if before.get(field) != after.get(field)
    )


def _of_end(shard: str, before: MigrationPlan, after: MigrationPlan) -> RiskChange:
    """What each plan leaves its ends with."""
    ends = [[one for one in plan.effects if one.shard == shard] for plan in (before, after)]
    peaks = [max((one.peak_after for one in effects), default=None) for effects in ends]
    likely = [_highest([one.exceeds_after for one in effects]) for effects in ends]
    scores = [plan.risk_after if shard == plan.source else None for plan in (before, after)]
    return RiskChange(shard, *scores, *peaks, *likely)


def _of_shard(shard: str, before: ShardRisk | None, after: ShardRisk | None) -> RiskChange:
    both = (before, after)
    scores = [None if one is None else one.score for one in both]
    peaks = [None if one is None else max(of.predicted_utilisation for of in one.resources) for one in both]
    likely = [None if one is None else _highest([of.exceeds for of in one.resources]) for one in both]
    return RiskChange(shard, *scores, *peaks, *likely)


def _highest(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
