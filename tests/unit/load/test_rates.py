from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.errors import InvalidInput
from foreshard.load.rates import MAX_GAP, rates
from foreshard.load.sample import BucketCounters, CounterReading

T0 = datetime(2013, 11, 27, 18, tzinfo=UTC)
BOOT = datetime(2026, 1, 1, tzinfo=UTC)
RATES = {"queries_per_s", "rows_read_per_s", "rows_written_per_s"}

totals = st.integers(0, 2**60)
counters = st.builds(BucketCounters, st.integers(1, 3), totals, totals, totals, totals)
buckets = st.dictionaries(st.sampled_from(["b0000", "b0001", "b0002"]), counters)
moments = st.integers(-900, 900).map(lambda seconds: T0 + timedelta(seconds=seconds))
boots = st.sampled_from([BOOT, BOOT + timedelta(days=1)])
resets = st.sampled_from([None, BOOT, BOOT + timedelta(days=1)])
readings = st.builds(CounterReading, moments, st.just("shard-1"), boots, resets, buckets)


def reading(seconds: float, **of: BucketCounters) -> CounterReading:
    return CounterReading(T0 + timedelta(seconds=seconds), "shard-1", BOOT, None, of)


BEFORE = reading(0, b0000=BucketCounters(1, 100, 1000, 10, 5000), b0001=BucketCounters(2, 7, 70, 1, 100))
AFTER = reading(10, b0000=BucketCounters(1, 150, 1200, 30, 6000), b0001=BucketCounters(2, 7, 70, 1, 100))


def values(before: CounterReading | None, after: CounterReading) -> dict[tuple[str | None, str], float]:
    found = {(sample.bucket, sample.metric): sample.value for sample in rates(before, after)}
    assert len(found) == len(rates(before, after))
    return found


def test_rates_are_differences_by_seconds() -> None:
    assert values(BEFORE, AFTER) == {
        ("b0000", "size_bytes"): 6000,
        ("b0001", "size_bytes"): 100,
        ("b0000", "queries_per_s"): 5,
        ("b0000", "rows_read_per_s"): 20,
        ("b0000", "rows_written_per_s"): 2,
        ("b0001", "queries_per_s"): 0,
        ("b0001", "rows_read_per_s"): 0,
        ("b0001", "rows_written_per_s"): 0,
        (None, "queries_per_s"): 5,
        (None, "rows_read_per_s"): 20,
        (None, "rows_written_per_s"): 2,
    }
    assert {sample.ts for sample in rates(BEFORE, AFTER)} == {AFTER.ts}


def only_sizes(before: CounterReading | None, after: CounterReading) -> bool:
    return set(values(before, after)) == {(bucket, "size_bytes") for bucket in after.buckets}


def test_the_first_reading_gives_sizes_only() -> None:
    assert only_sizes(None, AFTER)


def test_a_restarted_server_gives_no_rate_even_if_its_counters_are_higher() -> None:
    assert only_sizes(BEFORE, replace(AFTER, server_started_at=BOOT + timedelta(seconds=1)))


def test_reset_counters_give_no_rate_even_if_they_are_higher() -> None:
    assert only_sizes(BEFORE, replace(AFTER, stats_reset_at=BOOT))


@pytest.mark.parametrize("seconds", [0, -1, MAX_GAP.total_seconds() + 1])
def test_a_clock_that_stood_or_went_back_and_a_long_gap_give_no_rate(seconds: float) -> None:
    assert only_sizes(BEFORE, replace(AFTER, ts=T0 + timedelta(seconds=seconds)))


def test_a_bucket_that_just_arrived_has_no_rate_and_neither_has_its_shard() -> None:
    arrived = replace(AFTER, buckets={**AFTER.buckets, "b0002": BucketCounters(9, 5, 5, 5, 5)})
    found = values(BEFORE, arrived)
    assert found["b0000", "queries_per_s"] == 5
    assert ("b0002", "queries_per_s") not in found
    assert (None, "queries_per_s") not in found


def test_a_bucket_made_anew_has_no_rate() -> None:
    found = values(BEFORE, replace(AFTER, buckets={"b0000": replace(AFTER.buckets["b0000"], schema_oid=77)}))
    assert found == {("b0000", "size_bytes"): 6000}


def test_an_empty_shard_is_idle() -> None:
    empty = reading(0), reading(10)
    assert values(*empty) == {(None, metric): 0 for metric in RATES}


def test_readings_of_two_shards_are_refused() -> None:
    with pytest.raises(InvalidInput, match="before: is a reading of shard-2"):
        rates(replace(BEFORE, shard="shard-2"), AFTER)


@given(readings, readings)
def test_a_rate_is_never_negative_and_never_more_than_the_counters_allow(
    before: CounterReading, after: CounterReading
) -> None:
    for sample in rates(before, after):
        assert sample.value >= 0
        assert sample.ts == after.ts
        if sample.metric in RATES:
            assert timedelta(0) < after.ts - before.ts <= MAX_GAP
            assert (before.server_started_at, before.stats_reset_at) == (
                after.server_started_at,
                after.stats_reset_at,
            )
            assert sample.bucket is None or sample.bucket in before.buckets


@given(readings, readings)
def test_a_shards_rate_is_the_sum_of_all_its_buckets_or_missing(
    before: CounterReading, after: CounterReading
) -> None:
    found = values(before, after)
    for metric in RATES:
        parts = [found[bucket, metric] for bucket in after.buckets if (bucket, metric) in found]
        if (None, metric) in found:
            assert len(parts) == len(after.buckets)
            assert found[None, metric] == pytest.approx(sum(parts))
        else:
            assert not parts or len(parts) < len(after.buckets)


@given(readings, st.integers(1, 599), st.lists(totals, min_size=3, max_size=3))
def test_splitting_an_interval_keeps_the_work(
    before: CounterReading, seconds: int, growth: list[int]
) -> None:
    """Two rates over two intervals make the same work as one rate over both."""

    def later(reading: CounterReading, by: int) -> CounterReading:
        grown = {
            bucket: replace(
                c,
                scans=c.scans + growth[0],
                rows_read=c.rows_read + growth[1],
                rows_written=c.rows_written + growth[2],
            )
            for bucket, c in reading.buckets.items()
        }
        return replace(reading, ts=reading.ts + timedelta(seconds=by), buckets=grown)

    middle = later(before, seconds)
    after = later(middle, 600 - seconds)
    halves, whole = (values(before, middle), values(middle, after)), values(before, after)
    for key in whole:
        if key[1] in RATES:
            assert halves[0][key] * seconds + halves[1][key] * (600 - seconds) == pytest.approx(
                whole[key] * 600
            )


@given(readings)
def test_a_reading_survives_json(reading: CounterReading) -> None:
    assert CounterReading.from_json(reading.as_json()) == reading
