"""The ways through the table of transitions, made from the table: forward, abort and reverse from every stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from foreshard.migration.lifecycle import ABORTABLE, ENDS, PATH, REVERSIBLE, TRANSITIONS, Stage
from tests.stress.kill_chain import Leg
from tests.stress.kill_runner import Errand
from tests.stress.recorded_steps import Point, When


@dataclass(frozen=True)
class Way:
    """A way to an end. Parties die on its last leg."""

    name: str
    legs: tuple[Leg, ...]


def ways() -> list[Way]:
    """Forward, and back from every stage that the table has a way back from, when all of that stage is done."""
    back = [
        Way(f"{errand}@{stage}", (_stopped(partial(_leaves, stage)), Leg(errand)))
        for errand, stages in ((Errand.ABORT, ABORTABLE), (Errand.REVERSE, REVERSIBLE))
        for stage in sorted(stages, key=PATH.index)
    ]
    return [Way("forward", (Leg(Errand.FORWARD),)), *back]


def turns(recorded: Sequence[Point]) -> list[tuple[Way, Point]]:
    """Kill at a point of a flip and then turn back at once, instead of going on: each is a migration of its own."""
    return [
        (Way(f"{errand}<{point.stage}", (_stopped(partial(_is, point), all_die=True), Leg(errand))), point)
        for point in recorded
        for errand, stages in ((Errand.ABORT, ABORTABLE), (Errand.REVERSE, REVERSIBLE))
        if Stage(point.stage) in stages and _of_a_flip(point)
    ]


def uncovered(points: Sequence[Point]) -> set[Stage]:
    """Stages of the table, its ends apart, at which no point lies."""
    return set(TRANSITIONS) - ENDS - {Stage(point.stage) for point in points}


def _stopped(at: Callable[[Point], bool], *, all_die: bool = False) -> Leg:
    return Leg(Errand.FORWARD, killed_at=at, all_die=all_die)


def _leaves(stage: Stage, point: Point) -> bool:
    return (
        point.stage == stage
        and point.when is When.BEFORE
        and any(point.write == f"go_to {then}" for then in TRANSITIONS[stage])
    )


def _is(wanted: Point, point: Point) -> bool:
    return wanted == point


def _of_a_flip(point: Point) -> bool:
    """One point between each two things that a flip does to the outside."""
    flip = ("intend", "renew", "failpoint flip_closed", "set_routing bound", "record opened")
    return point.write in flip and point.when is not When.BEFORE
