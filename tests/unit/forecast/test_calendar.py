from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from foreshard.errors import InvalidInput
from foreshard.forecast.calendar import Event, EventKind, coverage, effect, effects, overlapping
from foreshard.forecast.panel import Panel
from foreshard.forecast.series import SeriesKey

DAY = datetime(2013, 11, 27, tzinfo=UTC)
HOURS = pd.date_range(DAY, periods=6, freq="h")
SHARD = SeriesKey("shard-1", None, "queries_per_s")
BUCKET = SeriesKey(None, "b0000", "queries_per_s")


def event(starts: float, ends: float, factor: float, **only: frozenset[str]) -> Event:
    return Event("sale", DAY + timedelta(hours=starts), DAY + timedelta(hours=ends), factor, **only)


def test_covers_whole_hours_and_parts_of_them() -> None:
    assert effect([event(1.5, 3, 1.5)], SHARD, HOURS) == pytest.approx([1, 1.25, 1.5, 1, 1, 1])
    assert effect([event(1.25, 1.75, 3)], SHARD, HOURS) == pytest.approx([1, 2, 1, 1, 1, 1])


def test_events_multiply_and_may_lower_load() -> None:
    factor = effect([event(0, 2, 2.0), event(1, 3, 0.5)], SHARD, HOURS)
    assert factor == pytest.approx([2, 1, 0.5, 1, 1, 1])


def test_concerns_all_or_the_named() -> None:
    everything = event(0, 1, 2.0)
    assert everything.concerns(SHARD)
    assert everything.concerns(BUCKET)
    named = event(0, 1, 2.0, shards=frozenset({"shard-1"}), buckets=frozenset({"b0001"}))
    assert named.concerns(SHARD)
    assert not named.concerns(BUCKET)
    assert np.all(effect([named], BUCKET, HOURS) == 1)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("name", {"name": ""}),
        ("starts_at", {"starts_at": datetime(2013, 11, 27)}),  # noqa: DTZ001
        ("ends_at", {"ends_at": DAY}),
        ("effect", {"effect": 0.0}),
        ("effect", {"effect": float("nan")}),
        ("effect", {"effect": -1.0}),
        ("effect", {"effect": None}),
        ("ends_at", {"ends_at": DAY - timedelta(hours=1)}),
    ],
)
def test_bad_events_are_refused(field: str, change: dict[str, object]) -> None:
    good: dict[str, object] = {
        "name": "sale",
        "starts_at": DAY,
        "ends_at": DAY + timedelta(hours=1),
        "effect": 1.2,
    }
    with pytest.raises(InvalidInput) as refusal:
        Event(**(good | change))  # type: ignore[arg-type]
    assert refusal.value.field == field


def test_a_holiday_without_a_declared_effect_changes_nothing_yet() -> None:
    holiday = Event("day off", DAY, DAY + timedelta(days=1), None, kind=EventKind.HOLIDAY)
    assert np.all(effect([holiday], SHARD, HOURS) == 1)
    assert overlapping(event(0, 5, 2.0), [holiday]) == []
    assert overlapping(holiday, [event(0, 5, 2.0)]) == []


def test_events_overlap_if_they_change_the_same_series_at_the_same_time() -> None:
    one = event(0, 2, 2.0, shards=frozenset({"shard-1"}))
    everywhere, later = event(1, 3, 1.5), event(2, 3, 1.5)
    other = event(0, 2, 1.5, shards=frozenset({"shard-2"}), buckets=frozenset({"b0000"}))
    same_bucket = event(1, 3, 1.1, buckets=frozenset({"b0000"}))
    assert overlapping(one, [everywhere, later, other, same_bucket]) == [everywhere]
    assert overlapping(other, [one, same_bucket]) == [same_bucket]


@pytest.mark.parametrize("minutes", [5, 15, 60])
def test_a_step_of_any_length_is_covered_by_its_share(minutes: int) -> None:
    step = timedelta(minutes=minutes)
    times = pd.date_range(DAY, periods=timedelta(days=1) // step, freq=step)
    share = coverage(event(1.25, 3.1, 2.0), times, step)
    assert share.sum() * minutes == pytest.approx(1.85 * 60)
    assert set(share[:: len(share) - 1]) == {0.0}
    assert coverage(event(-30, 30, 2.0), times, step).min() == 1.0


def a_panel(step: timedelta = timedelta(hours=1)) -> Panel:
    keys = (
        SHARD,
        BUCKET,
        SeriesKey("shard-2", None, "queries_per_s"),
        SeriesKey("shard-1", None, "cpu_cores"),
    )
    return Panel(keys, np.ones((4, 4), np.float32), DAY, step)


def test_effects_of_a_panel_are_those_of_each_series_behind_its_end_too() -> None:
    panel = a_panel()
    events = [
        event(1.5, 3, 1.5),
        event(2, 7, 0.5, shards=frozenset({"shard-1", "elsewhere"})),
        event(0, 1, 3.0, shards=frozenset({"shard-2"}), buckets=frozenset({"b0000"})),
        event(-5, 0, 9.0),
        Event("day off", DAY, DAY + timedelta(days=1), None, kind=EventKind.HOLIDAY),
    ]
    found = effects(events, panel, 1, 6)
    assert found.shape == (4, 5)
    assert found.dtype == np.float32
    for row, key in enumerate(panel.keys):
        assert found[row] == pytest.approx(effect(events, key, panel.times(1, 6)))
    assert found[0] == pytest.approx([1.25, 0.75, 0.5, 0.5, 0.5])


def test_effects_of_short_steps() -> None:
    quarter = effects([event(0.25, 0.625, 2.0)], a_panel(timedelta(minutes=15)), 0, 4)
    assert quarter[0] == pytest.approx([1, 2, 1.5, 1])


def test_without_declared_effects_nothing_is_made() -> None:
    found = effects([event(90, 91, 2.0)], a_panel(), 0, 80)
    assert found.shape == (4, 80)
    assert found.strides == (0, 0)
    assert np.all(found == 1)


def test_a_blackout_has_neither_effect_nor_scope() -> None:
    blackout = Event("freeze", DAY, DAY + timedelta(days=1), None, kind=EventKind.BLACKOUT)
    assert overlapping(blackout, [replace(blackout, kind=EventKind.PROMOTION, effect=2.0)]) == []
    for field, value in (("effect", 1.0), ("shards", frozenset({"one"})), ("buckets", frozenset({"b1"}))):
        with pytest.raises(InvalidInput) as refused:
            replace(blackout, **{field: value})  # type: ignore[arg-type]
        assert refused.value.field == field
