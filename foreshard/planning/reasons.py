"""A plan's reasons, in words and numbers. Written for the person who approves it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from foreshard.planning.choice import Choice
from foreshard.planning.fleet import Fleet
from foreshard.planning.plan import Effect, Purpose, Question, Reason
from foreshard.planning.risk import ResourceRisk, ShardRisk
from foreshard.planning.timeline import Timeline


def reasons(choice: Choice, risk: ShardRisk, when: Timeline, fleet: Fleet) -> tuple[Reason, ...]:
    """One answer to each ``Question``, in their order. ``risk``: of the source before anything was planned."""
    return (
        _why_these(choice, fleet),
        _why_there(choice, fleet),
        _why_now(choice, risk, when, fleet),
        _what_it_costs(choice),
        _what_if_not(choice, risk, fleet),
    )


def _source(choice: Choice, fleet: Fleet) -> Effect:
    """On the source, the resource that the move is about: the one that was closest to its limit."""
    name = fleet.name(choice.move.source)
    ends = (one for one in choice.assessment.effects if one.shard == name)
    return max(ends, key=lambda one: one.peak_before / one.limit)


def _target(choice: Choice, fleet: Fleet) -> Effect:
    """On the target, the resource that comes closest to its limit."""
    name = fleet.name(choice.move.target)
    ends = (one for one in choice.assessment.effects if one.shard == name)
    return max(ends, key=lambda one: one.peak_after / one.limit)


def _why_these(choice: Choice, fleet: Fleet) -> Reason:
    move, effect = choice.move, _source(choice, fleet)
    mb, count, source = fleet.bytes(move.buckets) / 1e6, len(move.buckets), fleet.name(move.source)
    names = ", ".join(fleet.names(move.buckets))
    numbers = {"size_mb": mb, "peak_before": effect.peak_before, "peak_after": effect.peak_after}
    change = (
        f"{mb:.1f} MB bring its predicted peak of {effect.metric} from {effect.peak_before:.2f} to "
        f"{effect.peak_after:.2f} of capacity"
    )
    if choice.purpose is Purpose.DRAIN:
        left = choice.here - count
        those, has, them = ("this one", "has", "it") if count == 1 else (f"these {count}", "have", "them")
        rest = (
            f"{left} {'goes' if left == 1 else 'go'} elsewhere, or later."
            if left
            else f"With {them} it is empty."
        )
        text = (
            f"{source} is being drained. Of the buckets left on it ({choice.here}) {those} ({mb:.1f} MB) {has} room on "
            f"{fleet.name(move.target)}. {rest}"
        )
        return Reason(Question.WHY_THESE_BUCKETS, text, numbers | {"buckets": count, "here": choice.here})
    if choice.purpose is Purpose.PIN:
        text = f"{names} {'is' if count == 1 else 'are'} pinned to {fleet.name(move.target)}; {change}."
        return Reason(Question.WHY_THESE_BUCKETS, text, numbers)
    one, alone = count == 1, effect.peak_after <= effect.limit
    if move.exact:
        chosen = f"{'takes' if one else 'take'} the fewest bytes of all choices"
    elif choice.relieved:
        part = "what" if alone else "part of what"
        chosen = f"{'is' if one else 'are'} {part} relieves it with the fewest bytes found"
    else:
        chosen = f"{'is' if one else 'are'} what there is room for"
    text = f"Of the {choice.movable} buckets of {source} that may move, {names} {chosen}: {change}"
    if choice.strained is not None and choice.relieved:
        text += (
            f". The fleet has no room to keep the ceiling of {fleet.policy.target_ceiling:.2f}: "
            f"{'this' if alone else 'this with the other plans of this source'} keeps {effect.limit:.2f}, which load "
            f"exceeds with a probability of {choice.strained:.0%}."
        )
    elif choice.relieved and alone:
        text += f", under the ceiling of {effect.limit:.2f}."
        text += "" if one else " Leaving out any of them would not."
    elif choice.relieved:
        text += f"; with the other plans of this source it comes under the ceiling of {effect.limit:.2f}."
    else:
        text += (
            f". All that is planned for {source} does not bring it under the ceiling of {effect.limit:.2f}: the fleet "
            "has no room for more of its buckets."
        )
    return Reason(Question.WHY_THESE_BUCKETS, text, numbers)


def _why_there(choice: Choice, fleet: Fleet) -> Reason:
    move, effect = choice.move, _target(choice, fleet)
    target, them = fleet.name(move.target), "it" if len(move.buckets) == 1 else "them"
    if choice.purpose is Purpose.PIN:
        why = f"The policy pins {them} to {target}"
    elif choice.purpose is Purpose.DRAIN:
        why = f"{target} has room for {'it' if them == 'it' else 'most of them'}"
    elif move.exact:
        why = f"{target} has room for {them}, and no other choice moves fewer bytes"
    else:
        why = f"{target} is the first shard clockwise on the hash ring that has room for {them}"
    text = (
        f"{why}: its predicted peak of {effect.metric} goes from {effect.peak_before:.2f} to {effect.peak_after:.2f} "
        f"of capacity, its limit is {effect.limit:.2f}."
    )
    text += "".join(f" {one.shard} comes before it but {one.why}." for one in move.passed_over)
    if move.more_passed:
        text += f" So it is with {move.more_passed} more."
    numbers = {"peak_before": effect.peak_before, "peak_after": effect.peak_after, "limit": effect.limit}
    return Reason(Question.WHY_THERE, text, numbers)


def _why_now(choice: Choice, risk: ShardRisk, when: Timeline, fleet: Fleet) -> Reason:
    policy, worst, source = fleet.policy, risk.worst_resource, fleet.name(choice.move.source)
    numbers = {"score": risk.score, "threshold": policy.migration_threshold, "predicted_s": when.predicted_s}
    start = f"It starts at {_clock(when.not_before)}{': ' + when.why if when.why else ''}."
    if choice.purpose is not Purpose.RELIEF:
        asked = {
            Purpose.DRAIN: f"A person asked for {source} to be drained; shards at risk go first.",
            Purpose.PIN: "The policy says where they are to lie; shards at risk go first.",
            Purpose.BALANCE: "Nothing is at risk: this evens out load, after all other plans.",
        }[choice.purpose]
        took = f"The move is expected to take {when.predicted_s / 60:.0f} min with margin."
        return Reason(Question.WHY_NOW, f"{asked} {took} {start}", numbers)
    scored = f"The score is {risk.score:.3f}, a plan is made above {policy.migration_threshold:.3f}."
    if when.excess_at is None:
        text = (
            f"{source} uses {worst.utilisation:.2f} of its {worst.metric} at present and is predicted to peak at "
            f"{worst.predicted_utilisation:.2f}, not above its capacity, so nothing sets a deadline. {scored} {start}"
        )
        return Reason(Question.WHY_NOW, text, numbers)
    if worst.exceeds is not None:
        numbers["exceeds"] = worst.exceeds
        said = f"exceeds its capacity with a probability of {worst.exceeds:.0%}, at the earliest"
    else:
        said = "is predicted to exceed its capacity"
    deadline = (
        f"The move is expected to take {when.predicted_s / 60:.0f} min with margin, so it must start by "
        f"{_clock(when.start_by)}."
    )
    if when.late:
        deadline += " That has passed: the excess may begin before the move has ended."
    text = (
        f"{source} {said} from {_clock(when.excess_at)}, while it uses {worst.utilisation:.2f} of its {worst.metric} "
        f"at present. {deadline} {start} {scored}"
    )
    return Reason(Question.WHY_NOW, text, numbers)


def _what_it_costs(choice: Choice) -> Reason:
    cost, predicted = choice.assessment.cost, choice.assessment.prediction
    count = len(choice.move.buckets)
    return Reason(
        Question.WHAT_IT_COSTS,
        f"{cost.total:.4f} of capacity over the horizon: {_parts(cost.parts)}. "
        f"Writes of {count} bucket{'' if count == 1 else 's'} pause for about {predicted.pause_ms:.0f} ms in all. "
        f"Rates reckoned with: {'; '.join(predicted.rates)}.",
        {
            **cost.parts,
            "total": cost.total,
            "pause_ms": predicted.pause_ms,
            "copy_s": predicted.copy_s,
            "index_s": predicted.index_s,
            "catch_up_s": predicted.catch_up_s,
            "verify_s": predicted.verify_s,
        },
    )


_NAMES = {"wal": "WAL", "pause": "write pause", "verify": "verification"}


def _parts(parts: Mapping[str, float]) -> str:
    return ", ".join(
        f"{_NAMES.get(name, name)} {value:.{6 if name == 'pause' else 4}f}" for name, value in parts.items()
    )


def _what_if_not(choice: Choice, risk: ShardRisk, fleet: Fleet) -> Reason:
    source, worst = fleet.name(choice.move.source), risk.worst_resource
    numbers = {"predicted_peak": worst.predicted_utilisation}
    if choice.purpose is Purpose.DRAIN:
        text = f"{source} keeps its buckets and cannot be removed. `foreshard shard undrain` takes it back."
        return Reason(Question.WHAT_IF_NOT, text, numbers)
    if choice.purpose is not Purpose.RELIEF:
        return Reason(
            Question.WHAT_IF_NOT, "Nothing that is predicted to hurt: load stays as it lies.", numbers
        )
    over = [one for one in risk.resources if one.excess_at is not None]
    if not over:
        text = f"{source} stays at {worst.utilisation:.2f} of its {worst.metric}, with little to spare."
        return Reason(Question.WHAT_IF_NOT, text, numbers)
    listed = ", ".join(_asked_for(one, fleet) for one in over)
    text = f"{source} may be asked for {listed}: requests queue and time out until the load falls again."
    return Reason(Question.WHAT_IF_NOT, text, numbers)


def _asked_for(one: ResourceRisk, fleet: Fleet) -> str:
    assert one.excess_at is not None
    policy = fleet.policy
    how_sure = (
        f"at the {policy.predicted_quantile:g} quantile"
        if one.exceeds is None
        else f"which {policy.relief_probability:.0%} of such windows exceed"
    )
    return f"{one.predicted_utilisation:.2f} of its {one.metric} (from {_clock(one.excess_at)}, {how_sure})"


def _clock(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
