"""Several fleets under several contenders, all at the same time, so that one forecast serves them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from foreshard.errors import InvalidInput
from foreshard.forecast.models.candidates import NAIVE
from foreshard.forecast.panel import DAY, HOUR
from foreshard.planning.planner import decide as planner
from foreshard.planning.policy import DecisionPolicy
from foreshard.simulate.contender import FORECASTING, Contender, Way
from foreshard.simulate.fleet import Fleet
from foreshard.simulate.foresight import Foresight, Pace
from foreshard.simulate.outcome import Outcome
from foreshard.simulate.outlook import held_flat, truth
from foreshard.simulate.replay import Decide, Replay
from foreshard.simulate.trace import Trace

LEAST_HISTORY = 2 * DAY
"""Before the first decision: less is not forecast from."""

Tell = Callable[[int, int], None]
"""Steps that are done, and how many there are."""


@dataclass(frozen=True)
class Schedule:
    """From when on is replayed: the step ``first``, until ``until``; decisions ``every`` so often, those by the present
    load at each step.
    """

    first: int
    until: int
    every: timedelta = HOUR


def simulate(
    trace: Trace,
    fleets: Sequence[Fleet],
    contenders: Sequence[Contender],
    policy: DecisionPolicy,
    pace: Pace,
    schedule: Schedule,
    tell: Tell | None = None,
    decide: Decide = planner,
) -> list[Outcome]:
    """The outcome of every fleet under every contender, fleet by fleet.

    Raises ``InvalidInput``: the schedule leaves too little history or nothing to replay, steps that do not fit.
    """
    pace.check(trace)
    _check(trace, schedule, pace)
    replays = [
        Replay(trace, fleet, contender, policy, schedule.first, schedule.until)
        for fleet in fleets
        for contender in contenders
    ]
    sights = {
        Way.PREDICTIVE: Foresight(trace, pace),
        Way.NAIVE: Foresight(trace, replace(pace, models=(NAIVE,))),
    }
    for now in range(schedule.first, schedule.until):
        for one in replays:
            one.complete(now)
        if (now - schedule.first) * trace.step % pace.every == timedelta(0):
            _foresee(now, replays, sights)
        for one in replays:
            _act(now, one, pace, schedule, decide)
            one.pass_step(now)
        if tell is not None:
            tell(now - schedule.first + 1, schedule.until - schedule.first)
    return [one.outcome() for one in replays]


def _foresee(now: int, replays: Sequence[Replay], sights: dict[Way, Foresight]) -> None:
    for way in FORECASTING:
        ours = [one for one in replays if one.contender.way is way]
        if ours:
            found = sights[way].outlooks(now, [one.fleet for one in ours], [one.placement for one in ours])
            for one, outlook in zip(ours, found, strict=True):
                one.outlook = outlook


def _act(now: int, one: Replay, pace: Pace, schedule: Schedule, decide: Decide) -> None:
    way = one.contender.way
    due = (now - schedule.first) * one.trace.step % schedule.every == timedelta(0)
    if way is Way.REACTIVE:
        assert one.contender.threshold is not None
        if one.above(now, one.contender.threshold):
            flat = held_flat(one.trace, one.fleet, now, one.placement, pace.step, pace.ahead)
            one.decide(now, flat, decide)
    elif way is Way.ORACLE and due:
        one.decide(now, truth(one.trace, one.fleet, now, one.placement, pace.step, pace.ahead), decide)
    elif one.outlook is not None and due:
        one.decide(now, one.outlook, decide)
    if way is not Way.NONE:
        one.start_due(now)


def _check(trace: Trace, schedule: Schedule, pace: Pace) -> None:
    if not schedule.first < schedule.until <= trace.steps:
        raise InvalidInput("days", "leave nothing to replay")
    if schedule.first * trace.step < LEAST_HISTORY:
        raise InvalidInput(
            "days", f"leave less than {LEAST_HISTORY.days} days of history before the first decision"
        )
    if schedule.every % trace.step or (schedule.first * trace.step) % pace.step:
        raise InvalidInput("every", "decisions do not fall on steps of the trace")
