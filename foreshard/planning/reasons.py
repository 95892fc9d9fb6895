"""A plan's reasons, in words and numbers. Written for the person who approves it."""

from __future__ import annotations

from datetime import datetime

from foreshard.planning.assess import Assessment
from foreshard.planning.plan import Effect, Question, Reason
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.relief import Relief
from foreshard.planning.risk import ShardRisk
from foreshard.planning.timeline import Timeline


def reasons(
    relief: Relief,
    risk: ShardRisk,
    assessment: Assessment,
    when: Timeline,
    movable: int,
    policy: DecisionPolicy,
) -> tuple[Reason, ...]:
    """One answer to each ``Question``, in their order. ``movable`` is how many buckets of the source may
    move.
    """
    # On either end the resource that the move is about: the one that was, or comes, closest to its limit.
    source = max(
        (one for one in assessment.effects if one.shard == relief.source),
        key=lambda one: one.peak_before / one.limit,
    )
    target = _tightest(relief.target, assessment)
    return (
        _why_these(relief, source, movable),
        _why_there(relief, target, policy),
        _why_now(relief, risk, when, policy),
        _what_it_costs(relief, assessment),
        _what_if_not(relief, risk, policy),
    )


def reasons_to_drain(
    relief: Relief,
    assessment: Assessment,
    when: Timeline,
    left: int,
    policy: DecisionPolicy,
) -> tuple[Reason, ...]:
    """As `reasons`, for a shard that a person wants to be emptied. ``left``: the buckets it holds now."""
    target = _tightest(relief.target, assessment)
    moved, mb = len(relief.buckets), relief.bytes / 1e6
    rest = "With them it is empty." if moved == left else f"{left - moved} stay for a later plan."
    passed = "".join(f" {one.shard} comes before it but {one.why}." for one in relief.passed_over)
    return (
        Reason(
            Question.WHY_THESE_BUCKETS,
            f"{relief.source} is being drained. Of the {left} buckets left on it these {moved} ({mb:.1f} MB) have room "
            f"on {relief.target}. {rest}",
            {"size_mb": mb, "buckets": moved, "left": left},
        ),
        Reason(
            Question.WHY_THERE,
            f"{relief.target} has room for most of them: its predicted peak of {target.metric} goes from "
            f"{target.peak_before:.2f} to {target.peak_after:.2f} of capacity, {policy.copy_load:.2f} of it for the "
            f"copy while it runs; its limit is {target.limit:.2f}.{passed}",
            {"peak_before": target.peak_before, "peak_after": target.peak_after, "limit": target.limit},
        ),
        Reason(
            Question.WHY_NOW,
            f"A person asked for {relief.source} to be drained; shards at risk go first. The move is expected to take "
            f"{when.predicted_s / 60:.0f} min with margin.",
            {"predicted_s": when.predicted_s},
        ),
        _what_it_costs(relief, assessment),
        Reason(
            Question.WHAT_IF_NOT,
            f"{relief.source} keeps its buckets and cannot be removed. `foreshard shard undrain` takes it back.",
            {"left": left},
        ),
    )


def _tightest(target: str, assessment: Assessment) -> Effect:
    return max(
        (one for one in assessment.effects if one.shard == target), key=lambda one: one.peak_after / one.limit
    )


def _why_these(relief: Relief, source: Effect, movable: int) -> Reason:
    mb = relief.bytes / 1e6
    listed = ", ".join(relief.names)
    return Reason(
        Question.WHY_THESE_BUCKETS,
        f"Of the {movable} buckets of {relief.source} that may move, {listed} give the most relief per byte: "
        f"{mb:.1f} MB bring its predicted peak of {source.metric} from {source.peak_before:.2f} to "
        f"{source.peak_after:.2f} of capacity, under the ceiling of {source.limit:.2f}. "
        f"Leaving out any of them would not.",
        {"size_mb": mb, "peak_before": source.peak_before, "peak_after": source.peak_after},
    )


def _why_there(relief: Relief, target: Effect, policy: DecisionPolicy) -> Reason:
    passed = "".join(f" {one.shard} comes before it but {one.why}." for one in relief.passed_over)
    return Reason(
        Question.WHY_THERE,
        f"{relief.target} is the first shard clockwise on the hash ring from {relief.names[0]} that has "
        f"room: its predicted peak of {target.metric} goes from {target.peak_before:.2f} to "
        f"{target.peak_after:.2f} of capacity, {policy.copy_load:.2f} of it for the copy while it runs; its "
        f"limit is {target.limit:.2f}." + passed,
        {"peak_before": target.peak_before, "peak_after": target.peak_after, "limit": target.limit},
    )


def _why_now(relief: Relief, risk: ShardRisk, when: Timeline, policy: DecisionPolicy) -> Reason:
    worst = risk.worst_resource
    numbers = {"score": risk.score, "threshold": policy.migration_threshold, "predicted_s": when.predicted_s}
    scored = f"The score is {risk.score:.3f}, a plan is made above {policy.migration_threshold:.3f}."
    if when.excess_at is None:
        text = (
            f"{relief.source} uses {worst.utilisation:.2f} of its {worst.metric} at present, above the knee "
            f"of {policy.knee:.2f}. No excess is predicted, so nothing sets a deadline. {scored}"
        )
        return Reason(Question.WHY_NOW, text, numbers)
    deadline = (
        f"The move is expected to take {when.predicted_s / 60:.0f} min with margin, so it must start by "
        f"{_clock(when.start_by)}."
    )
    if when.late:
        deadline += " That has passed: the excess may begin before the move has ended."
    text = (
        f"{relief.source} is predicted to exceed its capacity from {_clock(when.excess_at)}, while it uses "
        f"{worst.utilisation:.2f} of its {worst.metric} at present. {deadline} {scored}"
    )
    return Reason(Question.WHY_NOW, text, numbers)


def _what_it_costs(relief: Relief, assessment: Assessment) -> Reason:
    cost, predicted = assessment.cost, assessment.prediction
    return Reason(
        Question.WHAT_IT_COSTS,
        f"{cost.total:.4f} of capacity over the horizon: copy {cost.copy:.4f}, WAL {cost.wal:.4f}, "
        f"network {cost.network:.4f}, write pause {cost.pause:.6f}, operator {cost.operator:.4f}. "
        f"Writes of {len(relief.buckets)} buckets pause for about {predicted.pause_ms:.0f} ms in all. "
        f"Rates reckoned with: {'; '.join(predicted.rates)}.",
        {
            "copy": cost.copy,
            "wal": cost.wal,
            "network": cost.network,
            "pause": cost.pause,
            "operator": cost.operator,
            "total": cost.total,
            "pause_ms": predicted.pause_ms,
            "copy_s": predicted.copy_s,
            "index_s": predicted.index_s,
            "catch_up_s": predicted.catch_up_s,
            "verify_s": predicted.verify_s,
        },
    )


def _what_if_not(relief: Relief, risk: ShardRisk, policy: DecisionPolicy) -> Reason:
    over = [one for one in risk.resources if one.excess_at is not None]
    worst = risk.worst_resource
    if not over:
        text = (
            f"{relief.source} stays at {worst.utilisation:.2f} of its {worst.metric}, with little to spare."
        )
    else:
        listed = ", ".join(
            f"{one.predicted_utilisation:.2f} of its {one.metric} (from {_clock(one.excess_at)})"
            for one in over
            if one.excess_at is not None
        )
        text = (
            f"{relief.source} will be asked for {listed} at the {policy.predicted_quantile:g} quantile: "
            f"requests queue and time out until the load falls again."
        )
    return Reason(Question.WHAT_IF_NOT, text, {"predicted_peak": worst.predicted_utilisation})


def _clock(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
