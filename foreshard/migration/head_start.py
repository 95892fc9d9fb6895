"""Sequences are not replicated: before a side takes writes, its sequences jump ahead of the other side's.

While both sides own keys both give values out. The source counts on where it is, the target from a start far ahead:
the source must never come to where the target started, however far the target has come since. So when half of the
distance is used up both jump: the source beyond all that the target has given out, the target ahead of the source.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

from foreshard.errors import DataMismatch
from foreshard.migration.work import Work
from foreshard.postgres import sequences
from foreshard.postgres.connect import Connection
from foreshard.postgres.guard import Side
from foreshard.postgres.sequences import MARGIN, Name, SequenceState

FACT = "sequence_starts"
"""In the migration's facts: sequence -> {source, target, margin}: positions that the sides count from, once both do."""

SAFETY = 2.0
"""Margin over the values that the source gives out, at the measured rate, while nobody looks."""


def give(work: Work, opening: Side) -> None:
    """Move the sequences of the side that is going to own everything; never backwards, so it may be done again.

    Raises:
        DataMismatch: a sequence has no room for it.
    """
    with work.connections() as (source, target):
        if opening is Side.TARGET:
            sequences.advance(target, source, work.buckets)
        else:
            sequences.advance(source, target, work.buckets, at_any_rate=True)


def keep_apart(work: Work, rates: Mapping[Name, float] | None = None) -> int:
    """Before both sides give out values, and while they do: see that they never meet. Returns how many jumped.

    ``rates``: values a second that the source gives out, for the first margins: they must last while a person is
    asked. Positions are stored before they are set: a runner that died in between is followed by one that sets them.

    Raises:
        DataMismatch: a sequence has no room to jump; or source and target have met, after both have jumped apart.
    """
    with work.connections() as (source, target):
        ours, theirs = sequences.read(source, work.buckets), sequences.read(target, work.buckets)
        starts: dict[str, dict[str, Any]] = dict(work.facts().get(FACT, {}))
        met: list[str] = []
        changed: list[Name] = []
        for name in ours.keys() & theirs.keys():
            key = ".".join(name)
            known = starts.get(key)
            if known is None:
                starts[key] = _first_start(key, ours[name], theirs[name], _margin(work, name, rates))
            elif (left := _left(known, ours[name], theirs[name])) < known["margin"] // 2:
                if left <= 0:
                    met.append(key)
                starts[key] = _jump(key, theirs[name], known["margin"])
            else:
                continue
            changed.append(name)
        if changed:
            work.store.put_facts(work.lease, **{FACT: starts})
        for name in ours.keys() & theirs.keys():
            _set(source, target, name, (ours[name], theirs[name]), starts[".".join(name)])
    if met:
        raise DataMismatch(
            f"Sequence {met[0]} gave out so many values on {work.source.name} that it came to those of "
            f"{work.target.name}: some may have been given out twice. Both were set apart again.",
            remedy="Look for doubled values in its column since the first canary step, then resume.",
            sequences=met,
        )
    return len(changed)


def wants_a_jump(work: Work) -> bool:
    """Whether `keep_apart` would move a sequence, of those that it watches already. Changes nothing."""
    starts: Mapping[str, Mapping[str, Any]] = work.facts().get(FACT, {})
    with work.connections() as (source, target):
        ours, theirs = sequences.read(source, work.buckets), sequences.read(target, work.buckets)
    return any(
        _left(known, ours[name], theirs[name]) < known["margin"] // 2
        for name in ours.keys() & theirs.keys()
        if (known := starts.get(".".join(name))) is not None
    )


def _first_start(key: str, source: SequenceState, target: SequenceState, margin: int) -> dict[str, Any]:
    """The target owns nothing yet: it starts a margin ahead, or where it is if that is farther."""
    margin = min(margin, max(MARGIN, source.room // 4))
    start = max(target.position, source.position + margin * source.step)
    return {"source": None, "target": _within(key, source, start), "margin": margin}


def _jump(key: str, target: SequenceState, margin: int) -> dict[str, Any]:
    source_start = target.position + margin * target.step
    return {
        "source": source_start,
        "target": _within(key, target, source_start + margin * target.step),
        "margin": margin,
    }


def _left(known: Mapping[str, Any], source: SequenceState, target: SequenceState) -> int:
    """Values that the source may give out before it comes to where the target started."""
    if target.position < known["target"] or _before(source, known["source"]):
        return int(known["margin"])  # a jump that was stored and not made; it is made now
    return (int(known["target"]) - source.position) // source.step


def _before(state: SequenceState, start: int | None) -> bool:
    return start is not None and state.position < start


def _set(
    source: Connection,
    target: Connection,
    name: Name,
    states: tuple[SequenceState, SequenceState],
    start: Mapping[str, Any],
) -> None:
    """Idempotent, and never backwards. A start is a margin beyond what was given out, so nobody is overtaken."""
    if states[1].position < start["target"]:
        sequences.set_position(target, name, states[1], start["target"])
    if _before(states[0], start["source"]):
        sequences.set_position(source, name, states[0], start["source"])


def _margin(work: Work, name: Name, rates: Mapping[Name, float] | None) -> int:
    settings = work.settings
    unwatched = work.approval.timeout_s + settings.canary_soak_s * len(settings.canary_percent)
    return max(MARGIN, ceil(SAFETY * (rates or {}).get(name, 0.0) * unwatched))


def _within(key: str, state: SequenceState, position: int) -> int:
    if position > state.limit:
        raise DataMismatch(
            f"Sequence {key} has {state.room} values left: too few for two sides to give them out at once.",
            remedy="Cut over now, or reverse; then give it (and its column) a wider type.",
            sequence=key,
        )
    return position
