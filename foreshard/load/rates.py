"""Turns two readings of counters into samples. Where a rate cannot be known there is none, never a wrong one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from foreshard.load.counters import BucketCounters, CounterReading
from foreshard.load.instant import interval_s
from foreshard.load.sample import Sample

_OF_BUCKET: Mapping[str, str] = {
    "queries_per_s": "scans",
    "rows_read_per_s": "rows_read",
    "rows_written_per_s": "rows_written",
}
_OF_SERVER: Mapping[str, str] = {
    "transactions_per_s": "transactions",
    "wal_bytes_per_s": "wal_bytes",
    "io_ops_per_s": "io_ops",
    "io_bytes_per_s": "io_bytes",
}


def rates(
    shard: str,
    ts: datetime,
    before: CounterReading | None,
    after: CounterReading,
    covered_until: datetime | None = None,
) -> list[Sample]:
    """The samples of ``shard`` that ``after`` gives at ``ts``: sizes always, rates where ``before`` allows it.

    A bucket has no rate if it was not on the shard before, if tables or indexes came or went, or if any of its
    counters went back. The shard's own rates (bucket None) are the sums, given only if every bucket of ``after`` has
    one. After a restart, a reset or a failover, and where the time since ``before`` is not known (`interval_s`), there
    are no rates.
    """
    samples = [Sample(ts, shard, bucket, "size_bytes", float(size)) for bucket, size in after.sizes.items()]
    if before is None or before.epoch != after.epoch:
        return samples
    server_s = (after.server_clock - before.server_clock).total_seconds()
    seconds = interval_s(before.at, after.at, server_s=server_s, covered_until=covered_until)
    if seconds is None:
        return samples
    continued = {
        bucket: (before.buckets[bucket], counters)
        for bucket, counters in after.buckets.items()
        if bucket in before.buckets and _continues(before.buckets[bucket], counters)
    }
    for metric, counter in _OF_BUCKET.items():
        of_bucket = {
            bucket: (getattr(late, counter) - getattr(early, counter)) / seconds
            for bucket, (early, late) in continued.items()
        }
        samples += [Sample(ts, shard, bucket, metric, rate) for bucket, rate in of_bucket.items()]
        if len(continued) == len(after.buckets):
            samples.append(Sample(ts, shard, None, metric, sum(of_bucket.values())))
    for metric, counter in _OF_SERVER.items():
        grown = getattr(after.totals, counter) - getattr(before.totals, counter)
        if grown >= 0:
            samples.append(Sample(ts, shard, None, metric, grown / seconds))
    return samples


def _continues(early: BucketCounters, late: BucketCounters) -> bool:
    return early.relations == late.relations and all(
        getattr(late, counter) >= getattr(early, counter) for counter in _OF_BUCKET.values()
    )
