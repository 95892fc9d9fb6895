"""PostgreSQL's own counters as a source of live load."""

from __future__ import annotations

from foreshard.load.counters import CounterReading
from foreshard.load.rates import rates
from foreshard.load.source import Collected, Reading, Shard, Visit
from foreshard.load.statistics import read_counters

OF_SERVER = frozenset({"wal_bytes_per_s", "io_ops_per_s", "io_bytes_per_s"})
"""Totals of a server; no shard's where several share it."""


class PostgresSource:
    """Scans, rows and sizes of buckets; transactions of the database; WAL and I/O of a server that it has alone.

    I/O is what the server asked of the operating system: all that can be known of a server elsewhere.
    """

    name = "counters"

    def owns(self, shard: Shard, reading: Reading | None) -> frozenset[str]:
        """It is asked last and gives what nobody else does."""
        del shard, reading
        return frozenset()

    def collect(self, visit: Visit, before: Reading | None) -> Collected:
        """As `LoadSource`; raises ShardUnavailable."""
        early = None if before is None else CounterReading.from_json(before)
        late = read_counters(
            visit.server(),
            visit.shard.name,
            visit.buckets,
            visit.now,
            None if early is None else early.sized_to,
        )
        samples = rates(visit.shard.name, visit.ts, early, late, visit.covered_until)
        if not visit.alone:
            samples = [sample for sample in samples if sample.metric not in OF_SERVER]
        return Collected(late.as_json(), samples)
