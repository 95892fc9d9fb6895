"""Readings of a server's counters, as they are kept until the next one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from foreshard.load.instant import Instant


class BucketCounters(NamedTuple):
    """Totals of one bucket on one shard, since the counters' last reset.

    ``relations`` is a digest of the tables and indexes that are counted: it tells a bucket from another of the same
    name, and from itself before a table came or went.
    """

    relations: int
    scans: int
    rows_read: int
    rows_written: int


class ServerTotals(NamedTuple):
    """Totals of the shard's database (``transactions``) and of its whole server."""

    transactions: int
    wal_bytes: int
    io_ops: int
    io_bytes: int


class Epoch(NamedTuple):
    """What readings must share to be compared: the server, its life, its counters' last resets.

    ``server`` is the cluster's system identifier, ``database`` an OID. ``resets`` are of the database's statistics, the
    background writer's, WAL's and I/O's: the server's own clock, only compared for equality. A crash that discards all
    statistics while the postmaster lives on shows in the background writer's.
    """

    server: str
    timeline: str
    database: int
    started_at: datetime
    resets: tuple[datetime | None, ...]


@dataclass(frozen=True)
class CounterReading:
    """The counters of a shard. ``server_clock`` is the shard's own time at ``at``.

    ``sizes``: bytes of those buckets whose turn it was; ``sized_to`` is the last of them, if there are more.
    """

    at: Instant
    server_clock: datetime
    epoch: Epoch
    totals: ServerTotals
    buckets: Mapping[str, BucketCounters]
    sizes: Mapping[str, int]
    sized_to: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The reading as JSON can hold it; ``from_json`` gives it back."""
        return dict(_READING.dump_python(self, mode="json"))

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> CounterReading:
        return _READING.validate_python(stored)


_READING = TypeAdapter(CounterReading)
