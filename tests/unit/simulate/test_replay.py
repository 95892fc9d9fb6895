"""One fleet, step by step, under plans that the test makes."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest

from foreshard.planning.cost import MigrationCost
from foreshard.planning.plan import Decision, MigrationPlan
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.timeline import Timeline
from foreshard.planning.view import FleetView
from foreshard.simulate.contender import Contender, Way
from foreshard.simulate.fleet import Fleet
from foreshard.simulate.outlook import held_flat
from foreshard.simulate.replay import Replay
from foreshard.simulate.trace import Trace

FIRST = 48
POLICY = DecisionPolicy()
HOUR = timedelta(hours=1)


def plan(source: str, target: str, *buckets: str, at: datetime, after: tuple[int, ...] = ()) -> MigrationPlan:
    timeline = Timeline(at, at, None, 3_600.0, 50.0)
    cost = MigrationCost(0.0, 0.0, 0.0, 0.0, 0.0)
    return MigrationPlan(source, target, buckets, timeline, 1, cost, 1.0, 0.1, 0.0, (), (), after=after)


class Planner:
    """Says what it is told to, and keeps what it was shown."""

    def __init__(self, *plans: MigrationPlan) -> None:
        self.plans = plans
        self.views: list[FleetView] = []

    def __call__(self, view: FleetView, _: DecisionPolicy) -> Decision:
        self.views.append(view)
        return Decision(view.now, (), self.plans, (), 0.5, 0.8)


def started(trace: Trace, fleet: Fleet, policy: DecisionPolicy = POLICY) -> Replay:
    return Replay(trace, fleet, Contender(Way.ORACLE), policy, FIRST, trace.steps)


def step(replay: Replay, now: int, planner: Planner | None = None) -> None:
    replay.complete(now)
    if planner is not None:
        outlook = held_flat(replay.trace, replay.fleet, now, replay.placement, HOUR, 24)
        replay.decide(now, outlook, planner)
    replay.start_due(now)
    replay.pass_step(now)


def test_a_copy_loads_both_ends_until_the_cutover(trace: Trace, roomy: Fleet) -> None:
    replay = started(trace, roomy)
    step(replay, FIRST, Planner(plan("s0", "s1", "b00", at=trace.at(FIRST))))
    step(replay, FIRST + 1)
    quiet = roomy.load(trace, roomy.placement, FIRST, FIRST + 2)[:, 0] / 20.0
    seen = replay.outcome().utilisation
    # 20 GB at 20 MB/s, compared at 60 MB/s, and 10 s of catching up
    share = (1_000 + 20e9 / 60e6 + 10) / 3_600
    np.testing.assert_allclose(seen[:2, 0] - quiet[:2, 0], POLICY.copy_load * share, rtol=1e-4)
    assert seen[2, 0] == pytest.approx(quiet[2, 0])
    moved = trace.load[0, 0, FIRST + 1] / 20.0
    np.testing.assert_allclose(seen[:, 1] - quiet[:, 1], [-moved, moved, 0.0], atol=1e-6)


def test_plans_wait_for_their_time_for_each_other_and_for_shards(trace: Trace, roomy: Fleet) -> None:
    at = trace.at(FIRST)
    replay = started(trace, roomy)
    plans = (
        plan("s0", "s1", "b00", at=at),
        plan("s2", "s1", "b06", at=at),
        plan("s0", "s2", "b01", at=at + 3 * HOUR),
        plan("s1", "s2", "b03", at=at, after=(2,)),
    )
    step(replay, FIRST, Planner(*plans))
    for now in range(FIRST + 1, FIRST + 8):
        step(replay, now)
    begun = {one.buckets: one.started_at for one in replay.outcome().moves}
    assert begun == {("b00",): at, ("b06",): at + HOUR, ("b01",): at + 3 * HOUR, ("b03",): at + 4 * HOUR}


def test_the_fleet_does_so_many_at_once(trace: Trace, roomy: Fleet) -> None:
    names = ("s0", "s1", "s2", "s3")
    fleet = replace(roomy, shards=names, capacity=np.full((4, 1), 20.0))
    plans = (plan("s0", "s1", "b00", at=trace.at(FIRST)), plan("s2", "s3", "b06", at=trace.at(FIRST)))
    replay = started(trace, fleet, POLICY.model_copy(update={"max_migrations": 1}))
    step(replay, FIRST, Planner(*plans))
    for now in range(FIRST + 1, FIRST + 4):
        step(replay, now)
    assert [one.started_at for one in replay.outcome().moves] == [trace.at(FIRST), trace.at(FIRST + 1)]


def test_a_plan_that_is_not_made_again_expires(trace: Trace, roomy: Fleet) -> None:
    later = trace.at(FIRST + 6)
    kept, dropped = plan("s0", "s1", "b00", at=later), plan("s2", "s1", "b06", at=later)
    replay = started(trace, roomy)
    step(replay, FIRST, Planner(kept, dropped))
    step(replay, FIRST + 1, Planner(kept))
    for now in range(FIRST + 2, FIRST + 9):
        step(replay, now)
    outcome = replay.outcome()
    assert outcome.expired == 1
    assert [one.buckets for one in outcome.moves] == [("b00",)]


def test_the_planner_sees_what_moves_and_what_has_moved(trace: Trace, roomy: Fleet) -> None:
    planner = Planner()
    replay = started(trace, roomy)
    step(replay, FIRST, Planner(plan("s0", "s1", "b00", at=trace.at(FIRST))))
    made = held_flat(trace, roomy, FIRST, roomy.placement, HOUR, 24)
    replay.decide(FIRST, made, planner)
    step(replay, FIRST + 1)
    replay.decide(FIRST + 1, made, planner)
    moving, moved = planner.views
    assert moving.moving == {"b00": "s1"}
    assert set(moving.busy) == {"s0", "s1"}
    assert moved.moving == {"b00": "s1"}  # of the older forecast it lies on s0 still
    assert not moved.busy
    assert moved.buckets.came_from.tolist() == [0, *[-1] * 7]
    assert 0 < moved.buckets.rested_s[0] < 3_600


def test_a_bucket_that_returns_within_two_days_was_moved_for_nothing(trace: Trace, roomy: Fleet) -> None:
    replay = started(trace, roomy)
    step(replay, FIRST, Planner(plan("s0", "s1", "b00", "b01", at=trace.at(FIRST))))
    step(replay, FIRST + 1)
    step(replay, FIRST + 2, Planner(plan("s1", "s0", "b00", at=trace.at(FIRST + 2))))
    step(replay, FIRST + 3)
    figures = replay.outcome().figures()
    assert figures["moves"] == 3
    assert figures["moves_undone"] == 1
    assert figures["bytes"] == 60e9
    assert figures["pause_s"] == pytest.approx(2 * POLICY.expected_pause_s)
