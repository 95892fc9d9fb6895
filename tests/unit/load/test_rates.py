from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.load.counters import BucketCounters, CounterReading, Epoch, ServerTotals
from foreshard.load.instant import MAX_GAP, Instant
from foreshard.load.rates import rates

T0 = datetime(2013, 11, 27, 18, tzinfo=UTC)
BOOT = datetime(2026, 1, 1, tzinfo=UTC)
EPOCH = Epoch("7711", "00000001", 16384, BOOT, (None, BOOT, BOOT, BOOT))
OF_BUCKET = {"queries_per_s", "rows_read_per_s", "rows_written_per_s"}
OF_SERVER = {"transactions_per_s", "wal_bytes_per_s", "io_ops_per_s", "io_bytes_per_s"}

totals = st.integers(0, 2**60)
counters = st.builds(BucketCounters, st.integers(1, 3), totals, totals, totals)
buckets = st.dictionaries(st.sampled_from(["b0000", "b0001", "b0002"]), counters)
seconds_of = st.integers(-900, 900)
epochs = st.sampled_from([EPOCH, EPOCH._replace(timeline="00000002")])


def at(seconds: float) -> Instant:
    return Instant(T0 + timedelta(seconds=seconds), "boot", 1000.0 + seconds)


def reading(seconds: float, **of: BucketCounters) -> CounterReading:
    clock = BOOT + timedelta(seconds=seconds)
    return CounterReading(at(seconds), clock, EPOCH, ServerTotals(0, 0, 0, 0), of, {})


readings = st.builds(
    lambda seconds, epoch, sums, of: replace(reading(seconds, **of), epoch=epoch, totals=ServerTotals(*sums)),
    seconds_of,
    epochs,
    st.tuples(totals, totals, totals, totals),
    buckets,
)

BEFORE = reading(0, b0000=BucketCounters(1, 100, 1000, 10), b0001=BucketCounters(2, 7, 70, 1))
AFTER = replace(
    reading(10, b0000=BucketCounters(1, 150, 1200, 30), b0001=BucketCounters(2, 7, 70, 1)),
    totals=ServerTotals(20, 8000, 50, 81920),
    sizes={"b0000": 6000},
)


def values(before: CounterReading | None, after: CounterReading) -> dict[tuple[str | None, str], float]:
    samples = rates("shard-1", after.at.wall, before, after)
    found = {(sample.bucket, sample.metric): sample.value for sample in samples}
    assert len(found) == len(samples)
    return found


def only_sizes(before: CounterReading | None, after: CounterReading) -> bool:
    return set(values(before, after)) == {(bucket, "size_bytes") for bucket in after.sizes}


def test_rates_are_differences_by_seconds() -> None:
    assert values(BEFORE, AFTER) == {
        ("b0000", "size_bytes"): 6000,
        ("b0000", "queries_per_s"): 5,
        ("b0000", "rows_read_per_s"): 20,
        ("b0000", "rows_written_per_s"): 2,
        ("b0001", "queries_per_s"): 0,
        ("b0001", "rows_read_per_s"): 0,
        ("b0001", "rows_written_per_s"): 0,
        (None, "queries_per_s"): 5,
        (None, "rows_read_per_s"): 20,
        (None, "rows_written_per_s"): 2,
        (None, "transactions_per_s"): 2,
        (None, "wal_bytes_per_s"): 800,
        (None, "io_ops_per_s"): 5,
        (None, "io_bytes_per_s"): 8192,
    }
    assert {sample.ts for sample in rates("shard-1", T0, BEFORE, AFTER)} == {T0}


def test_the_first_reading_gives_sizes_only() -> None:
    assert only_sizes(None, AFTER)


@pytest.mark.parametrize(
    "changed",
    [
        {"server": "7712"},
        {"timeline": "00000002"},
        {"database": 16385},
        {"started_at": BOOT + timedelta(seconds=1)},
        {"resets": (BOOT, BOOT, BOOT, BOOT)},
        {"resets": (None, BOOT + timedelta(seconds=1), BOOT, BOOT)},
    ],
)
def test_another_server_or_counters_begun_anew_give_no_rate_even_if_they_are_higher(
    changed: dict[str, object],
) -> None:
    assert only_sizes(BEFORE, replace(AFTER, epoch=EPOCH._replace(**changed)))  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [0, -1, MAX_GAP.total_seconds() + 1])
def test_no_time_between_or_too_much_gives_no_rate(seconds: float) -> None:
    clock = BOOT + timedelta(seconds=seconds)
    assert only_sizes(BEFORE, replace(AFTER, at=at(seconds), server_clock=clock))


def test_a_shards_clock_that_stepped_gives_no_rate_once() -> None:
    stepped = replace(AFTER, server_clock=AFTER.server_clock - timedelta(seconds=30))
    assert only_sizes(BEFORE, stepped)


def test_a_bucket_that_just_arrived_has_no_rate_and_neither_has_its_shard() -> None:
    arrived = replace(AFTER, buckets={**AFTER.buckets, "b0002": BucketCounters(9, 5, 5, 5)})
    found = values(BEFORE, arrived)
    assert found["b0000", "queries_per_s"] == 5
    assert ("b0002", "queries_per_s") not in found
    assert (None, "queries_per_s") not in found


def test_a_bucket_whose_tables_changed_has_no_rate() -> None:
    changed = {"b0000": AFTER.buckets["b0000"]._replace(relations=77)}
    assert not {metric for _, metric in values(BEFORE, replace(AFTER, buckets=changed))} & OF_BUCKET


def test_an_empty_shard_is_idle() -> None:
    found = values(reading(0), reading(10))
    assert found == {(None, metric): 0 for metric in OF_BUCKET | OF_SERVER}


@given(readings, readings)
def test_a_rate_is_never_negative_and_never_more_than_the_counters_allow(
    before: CounterReading, after: CounterReading
) -> None:
    seconds = after.at.boot_s - before.at.boot_s
    for (bucket, _), rate in values(before, after).items():
        assert rate >= 0
        assert 0 < seconds <= MAX_GAP.total_seconds()
        assert before.epoch == after.epoch
        assert bucket is None or bucket in before.buckets


@given(readings, readings)
def test_a_shards_rate_is_the_sum_of_all_its_buckets_or_missing(
    before: CounterReading, after: CounterReading
) -> None:
    found = values(before, after)
    for metric in OF_BUCKET:
        parts = [found[bucket, metric] for bucket in after.buckets if (bucket, metric) in found]
        if (None, metric) in found:
            assert len(parts) == len(after.buckets)
            assert found[None, metric] == pytest.approx(sum(parts))
        else:
            assert not parts or len(parts) < len(after.buckets)


@given(readings)
def test_a_reading_survives_json(reading: CounterReading) -> None:
    assert CounterReading.from_json(reading.as_json()) == reading
