"""The load store: what goes in comes out as the right means, whatever the order, the moves and the interruptions."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
import pytest

from foreshard.control.engine import ControlDatabase
from foreshard.control.load_grid import load_grid
from foreshard.control.load_keeper import LoadKeeper
from foreshard.control.load_levels import FIVE_MINUTES, HOURS, RAW, Level
from foreshard.control.load_rows import read
from foreshard.control.load_snapshot import LoadSnapshot
from foreshard.control.load_sql import transaction
from foreshard.control.load_store import LoadStore
from foreshard.errors import InvalidInput
from foreshard.load.sample import Sample
from tests.integration.load_reference import FIVE, HOUR, MINUTE, Values, five_minutes_of, hours_of

START = datetime(2026, 3, 2, 10, tzinfo=UTC)
DAY = timedelta(days=1)
RATE, SIZE = "queries_per_s", "size_bytes"
ODD = ["one/two", 'it\'s "odd"', "с пробелом", "{a,b}\\", "NULL"]


@pytest.fixture
def store(control: ControlDatabase) -> LoadStore:
    return LoadStore(control)


def samples(
    minutes: Sequence[int], shard: str, bucket: str | None, value: float, metric: str = RATE
) -> list[Sample]:
    """Of these minutes after ``START``; each bears the end of its minute."""
    return [Sample(START + (minute + 1) * MINUTE, shard, bucket, metric, value) for minute in minutes]


def stored(control: ControlDatabase, level: Level) -> dict[datetime, dict[tuple[str, str, str], float]]:
    """What the table holds, by time and name."""
    found: dict[datetime, dict[tuple[str, str, str], float]] = {}
    with transaction(control) as conn:
        names = LoadSnapshot(conn).names
        for metric in names.metrics.values():
            for shard, number in names.shards.items():
                rows = read(conn, level, metric.id, START - 1000 * DAY, START + 1000 * DAY).get(number)
                for at, values in zip(rows.ts, rows.values, strict=True) if rows else ():
                    ts = datetime(2000, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(at))
                    for bucket, value in zip(names.members[number], values.tolist(), strict=False):
                        if not np.isnan(value):
                            found.setdefault(ts, {})[metric.name, shard, bucket] = value
    return found


def assert_same(found: Values, expected: Values) -> None:
    assert found.keys() == expected.keys()
    for ts, values in expected.items():
        assert found[ts] == pytest.approx(values, rel=1e-5), ts


def life(seed: int, minutes: int = 150) -> list[Sample]:
    """Samples of a fleet in which buckets move, are served twice, are silent, and shards are measured unevenly."""
    dice = random.Random(seed)
    shards, buckets = ["a", "b", "c/d"], [f"b{n}" for n in range(6)] + ODD[:2]
    homes = {bucket: {dice.choice(shards)} for bucket in buckets}
    found = []
    for minute in range(minutes):
        for bucket in buckets:
            if dice.random() < 0.05:  # handed over, or served by one more
                homes[bucket] = set(dice.sample(shards, dice.choice([1, 1, 2])))
        for shard in shards:
            if dice.random() < 0.1:
                continue
            ts = START + (minute + 1) * MINUTE - timedelta(seconds=dice.choice([0, 0, 0.25, 20, 59.5]))
            here = [bucket for bucket in buckets if shard in homes[bucket] and dice.random() < 0.9]
            for at in (ts, ts + timedelta(seconds=0.4)) if dice.random() < 0.1 else (ts,):
                found += [
                    Sample(at, shard, None, metric, dice.random() * 9) for metric in (RATE, "memory_bytes")
                ]
                found += [
                    Sample(at, shard, b, m, dice.random() * 9)
                    for b in here
                    for m in (RATE, SIZE, "cpu_cores")
                ]
    return found


@pytest.mark.parametrize("seed", range(3))
def test_means_are_those_of_the_rule_whatever_the_order(
    control: ControlDatabase, store: LoadStore, seed: int
) -> None:
    """Some rolled up early, some late, some read without being rolled up at all."""
    dice = random.Random(seed)
    known = life(seed)
    order = [*known, *dice.sample(known, 50)]
    dice.shuffle(order)
    new = 0
    for part in range(6):
        new += store.add(order[part::6], "live" if part % 2 else "history")
        if part in (1, 3):
            LoadKeeper(control).keep(START + timedelta(minutes=20 * (part + 1)))
    assert new == len(known)
    hours = hours_of(known)
    for metric, combine in ((RATE, sum), (SIZE, max)):
        for bucket, series in store.bucket_series(metric, START, START + DAY).items():
            expected = {
                hour: combine(v for (m, _, b), v in values.items() if (m, b) == (metric, bucket))
                for hour, values in hours.items()
                if any((m, b) == (metric, bucket) for m, _, b in values)
            }
            assert series.to_dict() == pytest.approx(expected, rel=1e-5)
    LoadKeeper(control).roll_up()
    assert_same(stored(control, FIVE_MINUTES), five_minutes_of(known))
    assert_same(stored(control, HOURS), hours)
    assert LoadKeeper(control).keep(START + DAY).five_minutes == 0


def test_a_bucket_that_moves_within_an_hour_is_counted_once(
    control: ControlDatabase, store: LoadStore
) -> None:
    """Handed over at half past with 60 a second; then for a while both serve a part of it."""
    store.add(samples(range(30), "a", "b0", 60.0) + samples(range(30, 45), "b", "b0", 60.0), "live")
    store.add(samples(range(45, 60), "a", "b0", 6.0) + samples(range(45, 60), "b", "b0", 54.0), "live")
    for rolled_up in (False, True):
        if rolled_up:
            LoadKeeper(control).keep(START + DAY)
        assert store.bucket_series(RATE, START, START + DAY)["b0"].to_list() == pytest.approx([60.0])
        assert store.series(None, "b0", RATE, START, START + DAY, HOUR).to_list() == pytest.approx([60.0])
        assert store.series("a", "b0", RATE, START, START + DAY, HOUR).to_list() == pytest.approx([31.5])
        assert store.series("b", "b1", RATE, START, START + DAY, HOUR).empty
        by_shard = load_grid(control, [RATE], [], START, START + DAY, HOUR).buckets[RATE]
        assert by_shard["a"].values[0, 0] == pytest.approx(31.5)
        assert by_shard["b"].values[0, 0] == pytest.approx(28.5)


def test_a_gap_is_a_gap_at_every_step(control: ControlDatabase, store: LoadStore) -> None:
    """Five minutes of which one is known, none, and an hour of which two windows are."""
    store.add(samples([0, 11, 12, 130], "a", "b0", 4.0) + samples([11], "a", "b1", 2.0), "live")
    LoadKeeper(control).keep(START + DAY)
    until = START + DAY
    assert store.series("a", "b0", RATE, START, until).to_list() == [4.0, 4.0, 4.0, 4.0]
    five = store.series("a", "b0", RATE, START, until, FIVE)
    assert [(ts - START) / MINUTE for ts in five.index] == [0, 10, 130]
    hours = store.frame(RATE, START, until)
    assert hours.dtypes.unique().tolist() == [np.dtype("float32")]
    assert [(ts - START) / HOUR for ts in hours.index] == [0, 2]
    assert hours["b0"].to_list() == [4.0, 4.0]
    assert hours["b1"].isna().tolist() == [False, True]
    assert list(store.bucket_series(RATE, START, until)["b1"].index) == [START]


def test_a_sample_tells_of_the_time_before_it(control: ControlDatabase, store: LoadStore) -> None:
    """The mean of an hour, taken at its end, once stood under the next hour, and a minute's under the next minute."""
    store.add(
        [Sample(START + HOUR, "a", "b0", RATE, 7.0), Sample(START + DAY, "a", "b0", RATE, 9.0)], "history"
    )
    for rolled_up in (False, True):
        if rolled_up:
            LoadKeeper(control).keep(START + 2 * DAY)
        hours = store.bucket_series(RATE, START, START + DAY)["b0"]
        assert hours.to_dict() == {START: 7.0, START + DAY - HOUR: 9.0}
        assert store.series("a", "b0", RATE, START, START + HOUR, FIVE).to_dict() == {
            START + HOUR - FIVE: 7.0
        }
        assert store.bucket_series(RATE, START + DAY, START + 2 * DAY) == {}


def test_names_are_any(control: ControlDatabase, store: LoadStore) -> None:
    """A shard and a bucket with a slash once came back as others."""
    given = [Sample(START + MINUTE, shard, bucket, RATE, 1.0) for shard in ODD for bucket in ODD]
    assert store.add(given, "history") == len(given)
    LoadKeeper(control).keep(START + DAY)
    assert store.known().buckets == {shard: tuple(sorted(ODD)) for shard in sorted(ODD)}
    by_shard = load_grid(control, [RATE], [], START, START + DAY, HOUR).buckets[RATE]
    assert {
        (s, b): v[0] for s, of in by_shard.items() for b, v in zip(of.buckets, of.values, strict=True)
    } == {(one.shard, one.bucket): 1.0 for one in given}
    assert store.present(START + MINUTE).buckets == {bucket: {RATE: 5.0} for bucket in ODD}
    with pytest.raises(InvalidInput, match="metric"):
        store.add([Sample(START, "a", None, "Queries/s", 1.0)], "live")
    with pytest.raises(InvalidInput, match="time zone"):
        store.add([Sample(START.replace(tzinfo=None), "a", None, RATE, 1.0)], "live")


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf"), 1e39])
def test_what_is_no_load_is_refused_and_nothing_of_it_stored(
    control: ControlDatabase, store: LoadStore, wrong: float
) -> None:
    with pytest.raises(psycopg.DataError if wrong == 1e39 else psycopg.errors.CheckViolation):
        store.add([*samples([0], "a", "b0", 1.0), *samples([1], "a", "b0", wrong)], "live")
    assert stored(control, RAW) == {}
    assert store.add(samples([0], "a", "b0", 1e-60), "live") == 1  # below single precision: nothing


def test_the_first_of_two_values_stays(control: ControlDatabase, store: LoadStore) -> None:
    store.add(samples([0], "a", "b0", 1.0), "live")
    assert store.add(samples([0], "a", "b0", 2.0) + samples([0], "a", "b1", 3.0), "history") == 1
    assert store.add(samples([0], "a", None, 5.0), "live") == 1
    assert stored(control, RAW)[START + MINUTE] == {
        (RATE, "a", "b0"): 1.0,
        (RATE, "a", "b1"): 3.0,
        (RATE, "a", ""): 5.0,
    }
    assert store.count_live(START, START + HOUR) == 2
    LoadKeeper(control).keep(START + DAY)
    assert store.count_live(START, START + HOUR) == 2
