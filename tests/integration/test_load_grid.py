"""Load on one grid: steps of 5, 15 and 60 minutes of the same samples, with their gaps and moves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from foreshard.control.engine import ControlDatabase
from foreshard.control.load_grid import STEPS, load_grid
from foreshard.control.load_keeper import LoadKeeper
from foreshard.control.load_store import LoadStore
from foreshard.errors import InvalidInput
from foreshard.load.sample import Sample

START = datetime(2026, 3, 2, 10, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
FIVE, QUARTER, _ = STEPS
RATE, CPU, MEMORY = "queries_per_s", "cpu_cores", "memory_bytes"


def of_minute(minute: int, shard: str, bucket: str | None, metric: str, value: float) -> Sample:
    return Sample(START + (minute + 1) * MINUTE, shard, bucket, metric, value)


def known() -> list[Sample]:
    """b0 is handed over from "a" to "b" after 20 minutes and is not seen from minute 30 to 44; b1 stays on "a"."""
    found = []
    for minute in range(60):
        shard = "a" if minute < 20 else "b"
        if not 30 <= minute < 45:
            found.append(of_minute(minute, shard, "b0", RATE, 60.0 + minute))
        found += [of_minute(minute, "a", "b1", RATE, 5.0), of_minute(minute, "a", None, CPU, minute / 10)]
        found.append(of_minute(minute, "b", None, MEMORY, 1e9))
    return found


@pytest.mark.parametrize("rolled_up", [False, True])
def test_every_step_tells_the_same(control: ControlDatabase, rolled_up: bool) -> None:
    LoadStore(control).add(known(), "live")
    if rolled_up:
        LoadKeeper(control).keep(START + 2 * HOUR)
    minutes = np.where((np.arange(60) >= 30) & (np.arange(60) < 45), np.nan, 60.0 + np.arange(60))
    for step in STEPS:
        grid = load_grid(control, [RATE], [CPU, MEMORY], START, START + HOUR, step)
        units = step // MINUTE
        assert (grid.since, grid.windows) == (START, 60 // units)
        here = np.arange(60).reshape(-1, units)
        counted = grid.buckets[RATE]
        one, two = counted["a"], counted["b"]
        of_b0 = np.nan_to_num([one.values[one.buckets.index("b0")], two.values[0]]).sum(axis=0)
        expected = [np.nanmean(of) if np.isfinite(of).any() else 0.0 for of in minutes[here]]
        assert of_b0 == pytest.approx(expected)
        assert two.buckets == ("b0",)
        gaps = np.isnan(two.values[0])
        assert gaps.tolist() == [bool(np.isnan(of).all() or of.max() < 80) for of in minutes[here]]
        assert one.values[one.buckets.index("b1")] == pytest.approx(5.0)
        assert grid.shards[CPU].keys() == {"a"}
        assert grid.shards[CPU]["a"] == pytest.approx(here.mean(axis=1) / 10)
        assert grid.shards[MEMORY]["b"] == pytest.approx(1e9)


def test_it_begins_where_anything_is_known(control: ControlDatabase) -> None:
    LoadStore(control).add([of_minute(7, "a", "b0", RATE, 1.0), of_minute(40, "a", None, CPU, 1.0)], "live")
    grid = load_grid(control, [RATE, "rows_read_per_s"], [CPU], START - 9 * HOUR, START + HOUR, FIVE)
    assert (grid.since, grid.windows) == (START + FIVE, 11)
    assert grid.buckets["rows_read_per_s"] == {}
    assert np.flatnonzero(~np.isnan(grid.buckets[RATE]["a"].values[0])).tolist() == [0]
    assert np.flatnonzero(~np.isnan(grid.shards[CPU]["a"])).tolist() == [7]
    nothing = load_grid(control, [RATE], [], START + 5 * HOUR, START + 9 * HOUR, QUARTER)
    assert (nothing.buckets, nothing.windows) == ({RATE: {}}, 16)


def test_steps_that_are_not_kept_are_refused(control: ControlDatabase) -> None:
    for since, step, field in ((START, 10 * MINUTE, "step"), (START + FIVE, QUARTER, "since")):
        with pytest.raises(InvalidInput) as refused:
            load_grid(control, [RATE], [], since, START + 2 * HOUR, step)
        assert refused.value.field == field
