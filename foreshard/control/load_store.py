"""Load in the control database: samples in, hourly series and present values out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import pandas as pd
from psycopg import Cursor
from psycopg.types.json import Jsonb
from sqlalchemy import func, select

from foreshard.control.engine import ControlDatabase
from foreshard.control.models import CounterState, LoadSample
from foreshard.load.sample import Sample

PRESENT = timedelta(minutes=15)
"""Samples not older than this say what a load is now."""

_STAGE = "CREATE TEMP TABLE incoming (LIKE load_samples) ON COMMIT DROP"
_COPY = "COPY incoming (ts, shard, bucket, metric, value, source) FROM STDIN"
_MERGE = "INSERT INTO load_samples SELECT * FROM incoming ON CONFLICT DO NOTHING"
"""A sample that is there already stays as it is: late and repeated collections do no harm."""

_FIRST_READING = "INSERT INTO counter_states (shard, reading) VALUES (%s, '{}') ON CONFLICT DO NOTHING"
_READING = "SELECT reading FROM counter_states WHERE shard = %s FOR UPDATE"
_NEXT_READING = "UPDATE counter_states SET reading = %s WHERE shard = %s"


@dataclass(frozen=True)
class Present:
    """Loads now: means of the last minutes. A shard or bucket without fresh samples is not in it."""

    shards: Mapping[str, Mapping[str, float]]
    buckets: Mapping[str, Mapping[str, float]]


class LoadStore:
    """Reads and writes load samples."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control

    def add(self, samples: Iterable[Sample], source: Literal["history", "live"]) -> int:
        """Store samples that are not there yet; returns how many were new."""
        with self._control.connect() as conn, conn.cursor() as cursor:
            return self._merge(cursor, samples, source)

    def _merge(self, cursor: Cursor, samples: Iterable[Sample], source: str) -> int:
        cursor.execute(_STAGE)
        with cursor.copy(_COPY) as copy:
            for one in samples:
                copy.write_row((one.ts, one.shard, one.bucket or "", one.metric, one.value, source))
        return cursor.execute(_MERGE).rowcount

    def reading(self, shard: str) -> dict[str, Any] | None:
        """The last reading of the shard's counters, as `add_reading` got it."""
        with self._control.transaction() as session:
            row = session.get(CounterState, shard)
            return None if row is None else dict(row.reading)

    def add_reading(
        self,
        shard: str,
        before: Mapping[str, Any] | None,
        after: Mapping[str, Any],
        samples: Iterable[Sample],
    ) -> int | None:
        """Store live samples and the reading for the next rate in one transaction; returns how many were new.

        None: the stored reading is not ``before`` any more, another collection was faster; nothing is stored.
        """
        with self._control.connect() as conn, conn.cursor() as cursor:
            cursor.execute(_FIRST_READING, (shard,))
            (stored,) = cursor.execute(_READING, (shard,)).fetchone() or (None,)
            if (stored or None) != before:
                conn.rollback()
                return None
            cursor.execute(_NEXT_READING, (Jsonb(dict(after)), shard))
            return self._merge(cursor, samples, "live")

    def bucket_series(self, metric: str, since: datetime, until: datetime) -> dict[str, pd.Series[float]]:
        """Hourly means of every bucket, whichever shard it was on; hours without a sample are missing."""
        return self._hourly(LoadSample.bucket, LoadSample.bucket != "", metric, since, until)

    def bucket_series_by_shard(
        self, metric: str, since: datetime, until: datetime
    ) -> dict[str, dict[str, pd.Series[float]]]:
        """As `bucket_series`, by the shard that the bucket was measured on."""
        found: dict[str, dict[str, pd.Series[float]]] = {}
        names = func.concat(LoadSample.shard, "/", LoadSample.bucket)
        for name, values in self._hourly(names, LoadSample.bucket != "", metric, since, until).items():
            shard, bucket = name.split("/", 1)
            found.setdefault(shard, {})[bucket] = values
        return found

    def shard_series(self, metric: str, since: datetime, until: datetime) -> dict[str, pd.Series[float]]:
        """Hourly means of every shard as it was measured, under the placements of that time."""
        return self._hourly(LoadSample.shard, LoadSample.bucket == "", metric, since, until)

    def count_live(self, since: datetime, until: datetime) -> int:
        """How many samples of that time `collect` took."""
        with self._control.transaction() as session:
            return session.execute(
                select(func.count()).where(
                    LoadSample.ts >= since, LoadSample.ts < until, LoadSample.source == "live"
                )
            ).scalar_one()

    def sizes(self) -> dict[str, int]:
        """Bytes of every bucket by its newest sample."""
        with self._control.transaction() as session:
            rows = session.execute(
                select(LoadSample.bucket, LoadSample.value)
                .where(LoadSample.bucket != "", LoadSample.metric == "size_bytes")
                .order_by(LoadSample.bucket, LoadSample.ts.desc())
                .distinct(LoadSample.bucket)
            )
            return {bucket: int(value) for bucket, value in rows}

    def present(self, now: datetime) -> Present:
        """Means over the last quarter of an hour."""
        return Present(
            self._means(LoadSample.shard, LoadSample.bucket == "", now),
            self._means(LoadSample.bucket, LoadSample.bucket != "", now),
        )

    def newest(self, shard: str) -> tuple[datetime, dict[str, float]] | None:
        """The newest live samples of a shard as a whole, and when they were taken; None if there are none."""
        with self._control.transaction() as session:
            rows = session.execute(
                select(LoadSample.ts, LoadSample.metric, LoadSample.value)
                .where(LoadSample.shard == shard, LoadSample.bucket == "", LoadSample.source == "live")
                .order_by(LoadSample.ts.desc())
                .limit(20)
            ).all()
        if not rows:
            return None
        return rows[0].ts, {metric: float(value) for ts, metric, value in rows if ts == rows[0].ts}

    def _means(self, name: Any, scope: Any, now: datetime) -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = {}
        with self._control.transaction() as session:
            rows = session.execute(
                select(name, LoadSample.metric, func.avg(LoadSample.value))
                .where(scope, LoadSample.ts.between(now - PRESENT, now))
                .group_by(name, LoadSample.metric)
            )
            for key, metric, value in rows:
                found.setdefault(key, {})[metric] = float(value)
        return found

    def _hourly(
        self, name: Any, scope: Any, metric: str, since: datetime, until: datetime
    ) -> dict[str, pd.Series[float]]:
        hour = func.date_trunc("hour", LoadSample.ts, "UTC")
        with self._control.transaction() as session:
            rows = session.execute(
                select(name, hour, func.avg(LoadSample.value))
                .where(scope, LoadSample.metric == metric, LoadSample.ts >= since, LoadSample.ts < until)
                .group_by(name, hour)
                .order_by(name, hour)
            ).all()
        table = pd.DataFrame(rows, columns=["name", "ts", "value"])
        return {
            str(key): pd.Series(
                part["value"].to_numpy(float), index=pd.DatetimeIndex(pd.to_datetime(part["ts"], utc=True))
            )
            for key, part in table.groupby("name")
        }
