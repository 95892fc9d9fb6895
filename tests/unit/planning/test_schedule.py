"""Starts of migrations: nothing at once that must not be, nothing overloaded, in time where that is possible."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.planning.draft import Draft
from foreshard.planning.loads import fleet_loads
from foreshard.planning.plan import Purpose
from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.prediction import Prediction
from foreshard.planning.schedule import AS_GOOD, Scheduled, Unscheduled, schedule
from foreshard.planning.view import BucketsView, FleetView, ShardsView
from foreshard.planning.windows import Blackout

NOW = datetime(2026, 3, 28, 18, 20, tzinfo=UTC)
"""A Saturday, before the clocks of Berlin go forward."""
HOUR = timedelta(hours=1)
POLICY = DecisionPolicy(policy="threshold", predicted_quantile=0.5, copy_load=0.1)
GENTLE = POLICY.model_copy(update={"copy_load": 0.05})
"""A copy weighs less than the bucket that comes with it."""
EACH = 0.1
"""A bucket's load, of capacity."""


def fleet(
    paths: Sequence[Sequence[float]], buckets: int = 4, step: timedelta = HOUR, **more: object
) -> FleetView:
    """Shards of capacity 1 with these loads; of each, as many buckets of equal load."""
    loads = np.array(paths, float)
    many, steps = loads.shape
    shard = np.repeat(np.arange(many), buckets)
    shards = ShardsView(
        names=tuple(f"shard-{row:04}" for row in range(many)),
        capacity=np.ones((many, 1)),
        current=loads[:, :1],
        bands=np.repeat(loads[:, None, :, None], 7, axis=3),
        peaks=np.repeat(loads.max(axis=1)[:, None, None], 17, axis=2),
    )
    there = BucketsView(
        names=tuple(f"b{row:06}" for row in range(many * buckets)),
        shard=shard,
        size_bytes=np.full(len(shard), 10**7),
        load=np.minimum(EACH, loads / buckets)[shard][:, None],
        queries=np.ones((len(shard), steps)),
        rested_s=np.full(len(shard), np.inf),
        came_from=np.full(len(shard), -1),
    )
    floor = NOW - (NOW - NOW.replace(minute=0)) % step
    return FleetView(NOW, floor, step, ("cpu_cores",), shards, there, **more)  # type: ignore[arg-type]


def draft(
    source: int,
    target: int,
    *,
    hours: float = 1.0,
    excess: float | None = None,
    purpose: Purpose = Purpose.RELIEF,
    bucket: int = 0,
    many: int = 1,
    of: int = 4,
) -> Draft:
    """``excess``: hours from now."""
    predicted = Prediction(10**7, hours * 3600 - 90, 0.0, 0.0, 0.0, 60.0, 30.0, 12.0, ())
    at = None if excess is None else NOW + excess * HOUR
    rows = np.arange(source * of + bucket, source * of + bucket + many)
    return Draft(source, target, rows, purpose, at, predicted, 1.0)


def plan(
    drafts: Sequence[Draft], view: FleetView, policy: DecisionPolicy = POLICY
) -> list[Scheduled | Unscheduled]:
    return list(schedule(drafts, view, fleet_loads(view, policy), policy))


def begin(one: Scheduled | Unscheduled) -> float:
    """Hours from now."""
    assert isinstance(one, Scheduled), one
    return (one.timeline.not_before - NOW) / HOUR


def test_starts_in_the_trough_before_its_deadline() -> None:
    view = fleet([[0.8, 0.8, 0.5, 0.5, 0.8, 0.9, 1.2, 0.1], [0.3] * 8])
    [found] = plan([draft(0, 1, excess=5.67)], view)
    assert isinstance(found, Scheduled)
    assert found.timeline.not_before == NOW.replace(minute=0) + 2 * HOUR
    assert found.timeline.start_by == NOW + 4.67 * HOUR
    assert not found.timeline.late
    assert found.timeline.why == "trough: both ends at 0.60 at most"


def test_starts_at_once_if_the_policy_says_so() -> None:
    view = fleet([[0.8, 0.8, 0.5, 0.5, 0.8, 0.9, 1.2, 0.1], [0.3] * 8])
    [found] = plan([draft(0, 1, excess=5.67)], view, POLICY.model_copy(update={"start": "now"}))
    assert isinstance(found, Scheduled)
    assert (begin(found), found.timeline.why) == (0.0, "at once")


def test_present_load_presses() -> None:
    view = fleet([[0.85, 0.6, 0.1], [0.3] * 3])
    [found] = plan([draft(0, 1)], view)
    assert isinstance(found, Scheduled)
    assert found.timeline.not_before == found.timeline.start_by == NOW


def test_late_but_at_once_though_the_copy_comes_on_top() -> None:
    view = fleet([[0.95, 1.1, 1.1, 0.5], [0.3] * 4])
    [found] = plan([draft(0, 1, hours=2, excess=0.67)], view)
    assert isinstance(found, Scheduled)
    assert begin(found) == 0
    assert found.timeline.late
    assert found.timeline.why == "late: even a start now ends after shard-0000 exceeds its capacity; at once"


def test_what_nobody_waits_for_does_not_overload_its_source() -> None:
    view = fleet([[0.95] * 4, [0.3] * 4])
    [found] = plan([draft(0, 1, purpose=Purpose.BALANCE)], view)
    assert found == Unscheduled("shard-0000 has at no time room for the load of the copy")
    [found] = plan([draft(0, 1, purpose=Purpose.BALANCE)], fleet([[0.95, 0.95, 0.85, 0.85, 0.95], [0.3] * 5]))
    assert isinstance(found, Scheduled)
    assert found.timeline.not_before == NOW.replace(minute=0) + 2 * HOUR


def test_a_full_target_is_waited_for() -> None:
    view = fleet([[0.7, 0.7, 0.7, 0.7, 1.2], [0.92, 0.92, 0.5, 0.5, 0.5]])
    [found] = plan([draft(0, 1, excess=3.67)], view, GENTLE.model_copy(update={"start": "now"}))
    assert isinstance(found, Scheduled)
    assert found.timeline.not_before == NOW.replace(minute=0) + 2 * HOUR
    assert found.timeline.why == "shard-0001 has room from then on"
    [refused] = plan([draft(0, 1, excess=3.67)], fleet([[0.7] * 5, [0.92] * 5]), GENTLE)
    assert refused == Unscheduled("shard-0001 has at no time room for the buckets and their copy")


def test_room_is_made_first() -> None:
    view = fleet([[0.7] * 8, [0.92] * 8, [0.2] * 8])
    found = plan([draft(0, 1, excess=6), draft(1, 2, purpose=Purpose.BALANCE)], view, GENTLE)
    first, second = found
    assert isinstance(first, Scheduled)
    assert isinstance(second, Scheduled)
    assert (first.after, second.after) == ((1,), ())
    assert begin(second) + 1 <= begin(first) <= 5


def test_a_circle_without_room_is_said() -> None:
    view = fleet([[0.95] * 4, [0.95] * 4])
    found = plan([draft(0, 1, purpose=Purpose.PIN), draft(1, 0, purpose=Purpose.PIN)], view)
    assert found == [
        Unscheduled(
            f"shard-000{target} has at no time room for the buckets and their copy, and those that would make room on "
            "it cannot go first"
        )
        for target in (1, 0)
    ]


def test_a_circle_with_room_for_one_goes_round() -> None:
    view = fleet([[0.8] * 12, [0.92] * 12])
    drafts = [draft(0, 1, purpose=Purpose.PIN), draft(1, 0, purpose=Purpose.PIN)]
    first, second = plan(drafts, view, GENTLE)
    assert isinstance(first, Scheduled)
    assert isinstance(second, Scheduled)
    assert (first.after, second.after) == ((1,), ())


def test_several_plans_of_one_source_keep_their_deadline_together() -> None:
    path = [0.8, 0.8, 0.8, 0.8, 0.5, 0.8, 1.3, 1.3]
    view = fleet([path, [0.3] * 8, [0.3] * 8])
    drafts = [draft(0, 1, hours=2, excess=5.67), draft(0, 2, hours=2, excess=5.67, bucket=1)]
    found = plan(drafts, view)
    assert not any(one.timeline.late for one in found if isinstance(one, Scheduled))
    assert begin(found[0]) + 2 <= begin(found[1])
    assert isinstance(found[1], Scheduled)
    assert found[1].after == (0,)


def test_nobody_waits_for_a_trough_that_makes_others_late() -> None:
    # one at a time in the fleet, and the first one's trough is when the second has to run
    view = fleet([[0.8, 0.8, 0.2, 0.2, 0.8, 1.2], [0.3] * 6, [0.8] * 4 + [1.2] * 2, [0.3] * 6])
    policy = POLICY.model_copy(update={"max_migrations": 1})
    drafts = [draft(0, 1, excess=4.67), draft(2, 3, hours=2, excess=3.2)]
    first, second = plan(drafts, view, policy)
    assert isinstance(first, Scheduled)
    assert isinstance(second, Scheduled)
    assert not first.timeline.late
    assert not second.timeline.late
    assert first.timeline.why == "at once: were troughs waited for, plans would be late"
    assert second.timeline.why.startswith("no more than 1 at a time, and one ends then")


def test_busy_shards_and_the_fleets_number_are_waited_for() -> None:
    busy = {"shard-0001": NOW + HOUR, "shard-0003": NOW + HOUR}
    view = fleet([[0.5] * 8] * 6, busy=busy)
    policy = POLICY.model_copy(update={"max_migrations": 1, "start": "now"})
    ours, others = plan([draft(0, 1, excess=7), draft(4, 5, excess=7)], view, policy)
    assert isinstance(ours, Scheduled)
    assert isinstance(others, Scheduled)
    assert (begin(ours), begin(others)) == (1, 2)
    assert ours.timeline.why == "shard-0001 is busy until then"
    assert others.timeline.why == "no more than 1 at a time, and one ends then"
    assert others.after == ()


def test_a_busy_shard_that_is_not_planned_with_counts_too() -> None:
    policy = POLICY.model_copy(update={"max_migrations": 1, "start": "now"})
    [found] = plan([draft(0, 1, excess=7)], fleet([[0.5] * 8] * 2, busy={"unknown": NOW + HOUR}), policy)
    assert begin(found) == 1


def test_runs_lie_in_windows_and_outside_blackouts() -> None:
    # Berlin goes from 02:00 to 03:00 at 01:00 UTC: this window has an hour less than the clock says
    zone = ZoneInfo("Europe/Berlin")
    policy = POLICY.model_copy(update={"windows": ("Sun 01:00-06:00",), "start": "now"})
    view = fleet([[0.5] * 24] * 2, timezone=zone)
    [found] = plan([draft(0, 1, excess=20, hours=4)], view, policy)
    assert isinstance(found, Scheduled)
    assert found.timeline.not_before == datetime(2026, 3, 29, 0, 0, tzinfo=UTC)
    assert found.timeline.why == "the window Sun 01:00-06:00 opens"
    [refused] = plan([draft(0, 1, excess=20, hours=6)], view, policy)
    assert refused == Unscheduled(
        "it takes 6 h, and the longest time in the windows (Sun 01:00-06:00) and outside blackouts has 5 h: move fewer "
        "buckets or widen a window"
    )
    black = replace(view, blackouts=(Blackout("the fair", NOW, datetime(2026, 3, 29, 1, tzinfo=UTC)),))
    [later] = plan([draft(0, 1, excess=20, hours=3)], black, policy)
    assert isinstance(later, Scheduled)
    assert later.timeline.why == "the blackout the fair ends"


def test_a_window_behind_the_forecasts_is_named() -> None:
    policy = POLICY.model_copy(update={"windows": ("Wed 00:00-04:00",)})
    [found] = plan([draft(0, 1, excess=20)], fleet([[0.5] * 24] * 2), policy)
    assert found == Unscheduled(
        "the windows (Wed 00:00-04:00) and blackouts leave no time for the 1 h that it takes before "
        "2026-03-29 18:00 UTC; the next time it may is 2026-04-01 00:00 UTC"
    )


def test_a_run_longer_than_the_forecasts_goes_too() -> None:
    [found] = plan([draft(0, 1, hours=30, excess=3)], fleet([[0.7, 0.7, 0.7, 1.2], [0.3] * 4]))
    assert isinstance(found, Scheduled)
    assert begin(found) == 0
    assert found.timeline.late


SHARDS = 5


@st.composite
def fleets(draw: st.DrawFn) -> tuple[FleetView, list[Draft], DecisionPolicy]:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    minutes = draw(st.sampled_from([5, 15, 60]))
    steps = draw(st.integers(1, 36))
    wave = 1 + 0.4 * np.sin(np.arange(steps) / 4 + random.uniform(0, 6, (SHARDS, 1)))
    view = fleet(
        random.uniform(0.2, 0.8, (SHARDS, 1)) * wave,
        buckets=6,
        step=timedelta(minutes=minutes),
        timezone=ZoneInfo("Europe/Berlin"),
        blackouts=tuple(
            Blackout("no", NOW + at * HOUR, NOW + (at + 1) * HOUR)
            for at in draw(st.lists(st.integers(0, 30), max_size=2))
        ),
        busy={
            f"shard-000{row}": NOW + timedelta(minutes=50)
            for row in draw(st.sets(st.integers(0, 4), max_size=2))
        },
    ).ahead()
    used: dict[int, int] = {}
    drafts = []
    for _ in range(draw(st.integers(0, 8))):
        source, target = (int(one) for one in random.permutation(SHARDS)[:2])
        many = int(random.integers(1, 3))
        bucket = used.get(source, 0)
        if bucket + many > 6:
            continue
        used[source] = bucket + many
        drafts.append(
            draft(
                source,
                target,
                hours=float(random.choice([0.1, 0.7, 2.3])),
                excess=draw(st.none() | st.floats(0, 30)),
                purpose=draw(st.sampled_from(Purpose)),
                bucket=bucket,
                many=many,
                of=6,
            )
        )
    policy = POLICY.model_copy(
        update={
            "start": draw(st.sampled_from(["trough", "now"])),
            "windows": draw(
                st.sampled_from([(), ("daily 22:00-06:00",), ("Sat-Mon 12:00-04:00", "Sun 03:30-05:00")])
            ),
            "max_migrations": draw(st.integers(1, 3)),
        }
    )
    return view, drafts, policy


def open_at(moment: datetime, windows: tuple[str, ...]) -> bool:
    """By the wall, written down anew: what the texts of `fleets` mean."""
    local = moment.astimezone(ZoneInfo("Europe/Berlin"))
    hour, day = local.hour + local.minute / 60, local.weekday()
    return {
        (): True,
        ("daily 22:00-06:00",): hour >= 22 or hour < 6,
        ("Sat-Mon 12:00-04:00", "Sun 03:30-05:00"): (day in (5, 6, 0) and hour >= 12)
        or (day in (6, 0, 1) and hour < 4)
        or (day == 6 and 3.5 <= hour < 5),
    }[windows]


@settings(max_examples=40, deadline=None)
@given(fleets())
def test_what_always_holds(case: tuple[FleetView, list[Draft], DecisionPolicy]) -> None:
    view, drafts, policy = case
    loads = fleet_loads(view, policy)
    before = [of.copy() for of in loads.levels]
    found = schedule(drafts, view, loads, policy)
    assert found == schedule(drafts, view, loads, policy)
    assert all((of == one).all() for of, one in zip(loads.levels, before, strict=True))
    assert len(found) == len(drafts)
    runs = {
        number: (one.timeline.not_before, one.timeline.ends_at)
        for number, one in enumerate(found)
        if isinstance(one, Scheduled)
    }
    for number, (start, end) in runs.items():
        this = found[number]
        assert isinstance(this, Scheduled)
        ends = {drafts[number].source, drafts[number].target}
        assert view.now <= start < view.ends_at
        # one at a time on a shard
        for row in ends:
            assert start >= view.busy.get(view.shards.names[row], view.now)
        for other, (begins, over) in runs.items():
            if other != number and ends & {drafts[other].source, drafts[other].target}:
                assert over <= start or end <= begins
                assert (other in this.after) == (over <= start)
        # no more than so many at once
        under_way = -(-sum(until > start for until in view.busy.values()) // 2)
        assert under_way + sum(a <= start < b for a, b in runs.values()) <= policy.max_migrations
        # windows and blackouts
        for black in view.blackouts:
            assert end <= black.starts_at or black.ends_at <= start
        moment = start
        while moment < end:
            assert open_at(moment, policy.windows)
            moment += timedelta(minutes=1)
    _no_target_overloaded(view, drafts, runs, policy)


def _no_target_overloaded(
    view: FleetView, drafts: list[Draft], runs: dict[int, tuple[datetime, datetime]], policy: DecisionPolicy
) -> None:
    loads = fleet_loads(view, policy)
    for number, (start, _) in runs.items():
        target = drafts[number].target
        for step in range(view.steps):
            begins, ends = view.at(step), view.at(step + 1)
            if ends <= start:
                continue
            load = float(loads.path(target)[0, step])
            arrived = []  # when each begins and ends, and what it brings
            for other, (a, b) in runs.items():
                moved = drafts[other]
                of = float(loads.of(moved.buckets, target)[:, 0, step].sum())
                if moved.source == target and b <= begins:
                    load -= of
                if moved.target == target and a < ends:
                    arrived.append((b, of))
            assert load + sum(of for _, of in arrived) <= 1 + 1e-6
            for other, (a, b) in runs.items():
                if (
                    drafts[other].target == target and a < ends and begins < b
                ):  # the copy, and who came before
                    came = sum(of for over, of in arrived if over <= a)
                    assert load + came + policy.copy_load <= 1 + 1e-6


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([5, 15, 60]),
    st.sampled_from([0.2, 0.75, 2.0]),
    st.floats(0.5, 6),
)
def test_a_trough_is_the_least_peak_of_all_starts(
    seed: int, minutes: int, hours: float, excess: float
) -> None:
    """Against every minute, by loops."""
    path = np.random.default_rng(seed).uniform(0.1, 0.95, (2, 12))
    view = fleet(path, step=timedelta(minutes=minutes)).ahead()
    one = draft(0, 1, hours=hours, excess=excess)
    [found] = plan([one], view)
    known = fleet_loads(view, POLICY)
    given = known.of(one.buckets, 1).sum(axis=0)[0]
    source, target = known.path(0)[0], known.path(1)[0] + np.maximum(given, 0.1)  # its buckets, or their copy
    later = known.path(1)[0] + given

    def peak(start: datetime) -> float | None:
        """None if the target cannot take it then."""
        end, highest = start + hours * HOUR, 0.0
        if end > view.ends_at:
            highest = max(source.max() + 0.1, target.max())
        for step in range(view.steps):
            if view.at(step + 1) <= start:
                continue
            if view.at(step) < end:
                highest = max(highest, source[step] + 0.1, target[step])
            elif later[step] > 1 + 1e-9:
                return None
        return highest if highest <= 1 + 1e-9 else None

    deadline = min(view.now + (excess - hours) * HOUR, view.ends_at - timedelta(minutes=1))
    starts = [view.now + timedelta(minutes=at) for at in range(int((deadline - view.now) / HOUR * 60) + 1)]
    peaks = {start: of for start in starts if (of := peak(start)) is not None}
    if not peaks:
        return  # late, or on top of what the source cannot bear: told above
    assert isinstance(found, Scheduled)
    assert not found.timeline.late
    as_good = min(peaks.values()) + AS_GOOD
    chosen = peak(found.timeline.not_before)
    assert chosen is not None
    assert chosen <= as_good + 1e-9
    first = min(start for start, of in peaks.items() if of <= as_good - 1e-9)
    assert found.timeline.not_before <= first


def test_a_thousand_shards_take_a_fraction_of_a_second() -> None:
    random, steps = np.random.default_rng(9), 288
    wave = 1 + 0.4 * np.sin(np.arange(steps) / 40 + random.uniform(0, 6, (1000, 1)))
    view = fleet(random.uniform(0.2, 0.6, (1000, 1)) * wave, step=timedelta(minutes=5)).ahead()
    drafts = [draft(row, 500 + row, hours=0.2, excess=20) for row in range(100)]
    policy = POLICY.model_copy(update={"max_migrations": 8})
    loads = fleet_loads(view, policy)
    began = time.perf_counter()
    found = schedule(drafts, view, loads, policy)
    assert time.perf_counter() - began < 1.0
    assert sum(isinstance(one, Scheduled) for one in found) == 100
