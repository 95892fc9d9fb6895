"""Measured values, and the readings of counters that rates are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter


@dataclass(frozen=True)
class Sample:
    """One value of ``metric`` (its name holds the unit) at ``ts``; ``bucket`` is None for a whole shard."""

    ts: datetime
    shard: str
    bucket: str | None
    metric: str
    value: float


@dataclass(frozen=True)
class BucketCounters:
    """Totals of one bucket on one shard, since the counters' last reset, and its size now.

    ``schema_oid`` tells a bucket from another of the same name that stood there before.
    """

    schema_oid: int
    scans: int
    rows_read: int
    rows_written: int
    size_bytes: int


@dataclass(frozen=True)
class CounterReading:
    """The counters of a shard at ``ts`` (fleet time).

    ``server_started_at`` and ``stats_reset_at`` are the server's own clock; they are only compared for equality.
    """

    ts: datetime
    shard: str
    server_started_at: datetime
    stats_reset_at: datetime | None
    buckets: Mapping[str, BucketCounters]

    def as_json(self) -> dict[str, Any]:
        """The reading as JSON can hold it; ``from_json`` gives it back."""
        return dict(_READING.dump_python(self, mode="json"))

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> CounterReading:
        return _READING.validate_python(stored)


_READING = TypeAdapter(CounterReading)
