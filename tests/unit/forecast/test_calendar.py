from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from foreshard.errors import InvalidInput
from foreshard.forecast.calendar import Event, effect
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
