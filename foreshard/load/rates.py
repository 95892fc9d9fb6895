"""Turns two readings of counters into rates. Where a rate cannot be known there is none, never a wrong one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from foreshard.errors import InvalidInput
from foreshard.load.sample import BucketCounters, CounterReading, Sample

MAX_GAP = timedelta(minutes=10)
"""Between readings further apart too much may have happened for one mean to say anything."""

_RATES: Mapping[str, str] = {
    "queries_per_s": "scans",
    "rows_read_per_s": "rows_read",
    "rows_written_per_s": "rows_written",
}


def rates(before: CounterReading | None, after: CounterReading, max_gap: timedelta = MAX_GAP) -> list[Sample]:
    """The samples that ``after`` gives, at its time: sizes always, rates where ``before`` allows it.

    A bucket has no rate if it was not on the shard before, was made anew, or any of its counters went back. The
    shard's own rates (bucket None) are the sums, given only if every bucket of ``after`` has one. After a restart
    or a reset, across a gap longer than ``max_gap`` and when the clock did not advance, there are no rates.
    """
    samples = [
        Sample(after.ts, after.shard, bucket, "size_bytes", float(counters.size_bytes))
        for bucket, counters in after.buckets.items()
    ]
    if before is None:
        return samples
    if before.shard != after.shard:
        raise InvalidInput("before", f"is a reading of {before.shard}, not of {after.shard}")
    seconds = interval_s(before.ts, after.ts, max_gap)
    if seconds is None or _began_anew(before, after):
        return samples
    continued = {
        bucket: (before.buckets[bucket], counters)
        for bucket, counters in after.buckets.items()
        if bucket in before.buckets and _continues(before.buckets[bucket], counters)
    }
    for metric, counter in _RATES.items():
        of_bucket = {
            bucket: (getattr(late, counter) - getattr(early, counter)) / seconds
            for bucket, (early, late) in continued.items()
        }
        samples += [Sample(after.ts, after.shard, bucket, metric, rate) for bucket, rate in of_bucket.items()]
        if len(continued) == len(after.buckets):
            samples.append(Sample(after.ts, after.shard, None, metric, sum(of_bucket.values())))
    return samples


def interval_s(before: datetime, after: datetime, max_gap: timedelta) -> float | None:
    """Seconds between two readings; None if the clock did not advance or the gap is too long for a rate."""
    gap = after - before
    return gap.total_seconds() if timedelta(0) < gap <= max_gap else None


def _began_anew(before: CounterReading, after: CounterReading) -> bool:
    return (before.server_started_at, before.stats_reset_at) != (
        after.server_started_at,
        after.stats_reset_at,
    )


def _continues(early: BucketCounters, late: BucketCounters) -> bool:
    return early.schema_oid == late.schema_oid and all(
        getattr(late, counter) >= getattr(early, counter) for counter in _RATES.values()
    )
