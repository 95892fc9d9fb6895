"""Placeholder: the schedule is being written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from foreshard.planning.draft import Draft
from foreshard.planning.loads import FleetLoads
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.timeline import Timeline
from foreshard.planning.view import FleetView


@dataclass(frozen=True)
class Scheduled:
    """A time."""

    timeline: Timeline
    after: tuple[int, ...]


@dataclass(frozen=True)
class Unscheduled:
    """None."""

    why: str


def schedule(
    drafts: Sequence[Draft], view: FleetView, loads: FleetLoads, policy: DecisionPolicy
) -> tuple[Scheduled | Unscheduled, ...]:
    """One after the other on each shard, as soon as it may."""
    del loads, policy
    free: dict[int, tuple[int, float]] = {}
    found = []
    for at, draft in enumerate(drafts):
        ends = [free[one] for one in (draft.source, draft.target) if one in free]
        begin = view.now + timedelta(seconds=max((end for _, end in ends), default=0.0))
        total = draft.prediction.total_s
        by = begin if draft.excess_at is None else draft.excess_at - timedelta(seconds=total)
        time = Timeline(begin, by, draft.excess_at, total, draft.prediction.pause_ms)
        found.append(Scheduled(time, tuple(sorted({one for one, _ in ends}))))
        for one in (draft.source, draft.target):
            free[one] = at, (time.ends_at - view.now).total_seconds()
    return tuple(found)
