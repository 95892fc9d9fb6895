"""Whole replays, small ones."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from foreshard.errors import InvalidInput
from foreshard.planning.policy import DecisionPolicy
from foreshard.simulate.comparison import best_reactive, compared, summary
from foreshard.simulate.contender import THRESHOLDS, Contender, Way, contenders
from foreshard.simulate.fleet import Fleet
from foreshard.simulate.foresight import Foresight, Pace
from foreshard.simulate.outcome import Outcome
from foreshard.simulate.outlook import truth
from foreshard.simulate.simulation import Schedule, simulate
from foreshard.simulate.trace import Trace

PACE = Pace(every=timedelta(hours=12), models=("seasonal_naive",), origins=3)
SCHEDULE = Schedule(first=4 * 24, until=6 * 24)
POLICY = DecisionPolicy()


def run(trace: Trace, fleet: Fleet, *ways: Way) -> dict[str, Outcome]:
    found = simulate(trace, [fleet], contenders(ways), POLICY, PACE, SCHEDULE)
    return {one.contender: one for one in found}


def test_nothing_is_moved_where_nothing_saturates(trace: Trace, roomy: Fleet) -> None:
    for one in run(trace, roomy, *Way).values():
        assert not one.moves
        assert one.saturated_minutes == 0


def test_who_knows_what_comes_does_not_do_worse_than_who_does_nothing(trace: Trace, crowded: Fleet) -> None:
    found = run(trace, crowded, Way.NONE, Way.ORACLE)
    assert found["none"].saturated_minutes > 0
    assert found["oracle"].saturated_minutes < found["none"].saturated_minutes
    assert found["oracle"].moves
    assert not found["none"].moves


def test_a_forecast_of_a_daily_load_prevents_what_reactive_lets_happen(trace: Trace, crowded: Fleet) -> None:
    found = run(trace, crowded, Way.NONE, Way.NAIVE)
    assert found["naive"].saturated_minutes < found["none"].saturated_minutes


def test_load_is_conserved(trace: Trace, crowded: Fleet) -> None:
    for one in run(trace, crowded, Way.ORACLE, Way.REACTIVE).values():
        policy = POLICY
        total = trace.load[:, 0, SCHEDULE.first :].sum(axis=0) / crowded.capacity[0, 0]
        copies = one.utilisation.sum(axis=0) - total
        assert (copies > -1e-4).all()
        at_once = 2 * policy.max_migrations * policy.copy_load
        assert (copies <= at_once + 1e-4).all()
        assert (copies > 1e-4).any() == bool(one.moves)


def test_replays_side_by_side_are_those_of_each_alone(trace: Trace, crowded: Fleet, roomy: Fleet) -> None:
    both = simulate(trace, [roomy, crowded], [Contender(Way.ORACLE)], POLICY, PACE, SCHEDULE)
    alone = simulate(trace, [crowded], [Contender(Way.ORACLE)], POLICY, PACE, SCHEDULE)
    assert both[1].moves == alone[0].moves


def test_the_same_gives_the_same(trace: Trace, crowded: Fleet) -> None:
    ways = (Way.REACTIVE, Way.NAIVE, Way.ORACLE)
    first, again = (run(trace, crowded, *ways) for _ in range(2))
    for name, one in first.items():
        assert one.moves == again[name].moves
        np.testing.assert_array_equal(one.utilisation, again[name].utilisation)


def test_a_forecast_knows_nothing_of_what_comes(trace: Trace, crowded: Fleet) -> None:
    now = SCHEDULE.first
    poisoned = trace.load.copy()
    poisoned[:, :, now:] *= 1_000
    queries = trace.queries.copy()
    queries[:, now:] = 0.0
    other = replace(trace, load=poisoned, queries=queries)
    true, false = (
        Foresight(one, PACE).outlooks(now, [crowded], [crowded.placement])[0] for one in (trace, other)
    )
    for name in ("bands", "peaks", "load", "queries"):
        np.testing.assert_array_equal(getattr(true, name), getattr(false, name))


def test_a_poisoned_future_changes_no_move_that_ended_before_it(trace: Trace, crowded: Fleet) -> None:
    poisoned_from = SCHEDULE.first + 24
    load = trace.load.copy()
    load[:, :, poisoned_from:] *= 5
    other = replace(trace, load=load)
    ways = contenders((Way.REACTIVE, Way.NAIVE))
    until = replace(SCHEDULE, until=poisoned_from)
    for one, poisoned in zip(
        simulate(trace, [crowded], ways, POLICY, PACE, until),
        simulate(other, [crowded], ways, POLICY, PACE, until),
        strict=True,
    ):
        assert one.moves == poisoned.moves


def test_the_oracle_sees_the_highest_load_of_each_step(trace: Trace, crowded: Fleet) -> None:
    found = truth(trace, crowded, SCHEDULE.first, crowded.placement, timedelta(hours=6), 4)
    assert found.bands.shape == (3, 1, 4, 7)
    expected = crowded.load(trace, crowded.placement, SCHEDULE.first, SCHEDULE.first + 6).max(axis=2)
    np.testing.assert_allclose(found.bands[:, :, 0, 3], expected)


def test_reactive_counts_with_its_best_threshold(trace: Trace, crowded: Fleet) -> None:
    found = list(run(trace, crowded, *Way).values())
    best = best_reactive(found)
    assert best in THRESHOLDS
    minutes = {one.threshold: one.saturated_minutes for one in found if one.threshold is not None}
    assert minutes[best] == min(minutes.values())
    assert [one.contender.split()[0] for one in compared(found)] == [way.value for way in Way]
    ways = summary(found)["ways"]
    assert ways["reactive"]["gap_closed"] in (0.0, None)
    assert ways["none"]["bytes"] == 0


@pytest.mark.parametrize(
    ("schedule", "field"),
    [(Schedule(24, 48), "days"), (Schedule(96, 96), "days"), (Schedule(96, 500), "days")],
)
def test_a_schedule_that_cannot_be(trace: Trace, roomy: Fleet, schedule: Schedule, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        simulate(trace, [roomy], contenders(), POLICY, PACE, schedule)
    assert refused.value.field == field
