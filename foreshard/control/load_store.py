"""Load in the control database: samples in, series and present values out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
from psycopg.types.json import Jsonb

from foreshard.control.engine import ControlDatabase
from foreshard.control.load_import import LoadImport, importing
from foreshard.control.load_levels import FIVE_MINUTES, HOURS, MICROSECOND, RAW, Level, microseconds
from foreshard.control.load_models import CounterState
from foreshard.control.load_series import all_series, index_of, series_of, times_of
from foreshard.control.load_snapshot import LoadSnapshot
from foreshard.control.load_sql import statement, transaction
from foreshard.control.load_writing import LoadWriter, Source
from foreshard.errors import InvalidInput
from foreshard.load.rollup import Matrix, Numbers, Rows, Windows, by_bucket, roll_up
from foreshard.load.sample import Sample

if TYPE_CHECKING:
    import pandas as pd

PRESENT = timedelta(minutes=15)
"""Samples not older than this say what a load is now."""

HOUR = timedelta(hours=1)

SIZE = "size_bytes"

_SIZES_WITHIN = (timedelta(days=1), timedelta(days=30))
"""How far back the size is looked for of a bucket that was not measured in the last minutes."""

_FIRST_READING = "INSERT INTO counter_states (shard, reading) VALUES (%s, %s) ON CONFLICT DO NOTHING"
_NEXT_READING = "UPDATE counter_states SET reading = %s WHERE shard = %s AND reading = %s"


@dataclass(frozen=True)
class Present:
    """Loads now: means of the last minutes. A shard or bucket without fresh samples is not in it."""

    shards: Mapping[str, Mapping[str, float]]
    buckets: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Known:
    """What samples were ever stored of: the metrics, and the buckets by shard, in order of their names."""

    metrics: tuple[str, ...]
    buckets: Mapping[str, tuple[str, ...]]


class LoadStore:
    """Reads and writes load samples.

    Readings of means hold what was added a moment ago, too; only what was added to a time whose samples have been
    dropped since waits for the next `LoadKeeper.keep`. To be shared by threads.
    """

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control
        self._writer = LoadWriter(control)

    def add(self, samples: Iterable[Sample], source: Source) -> int:
        """Store samples that are not there yet, in one transaction; returns how many were new.

        Late, repeated and unordered samples do no harm. For more than some 100,000 at once there is `importing`.

        Raises:
            InvalidInput: a time without a time zone, a name that no metric can have.
        """
        return self._writer.put(samples, source) or 0

    def importing(self, source: Source) -> AbstractContextManager[LoadImport]:
        """``with store.importing("history") as batch: batch.add(samples)``: see `load_import.importing`."""
        return importing(self._control, self._writer, source)

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
        """Store live samples and the reading (JSON) that they were made with, or neither.

        ``before``: the reading that the samples begin at, as `reading` gave it. If another one is stored by now,
        another collection was faster: nothing is stored and None returned.
        """

        def put(conn: psycopg.Connection) -> bool:
            if before is None:
                return conn.execute(_FIRST_READING, [shard, Jsonb(dict(after))]).rowcount == 1
            given = [Jsonb(dict(after)), shard, Jsonb(dict(before))]
            return conn.execute(_NEXT_READING, given).rowcount == 1

        return self._writer.put(samples, "live", only_if=put)

    def known(self) -> Known:
        """The names there are."""
        with self._snapshot() as snapshot:
            names = snapshot.names
        buckets = {shard: tuple(sorted(names.members[number][1:])) for shard, number in names.shards.items()}
        return Known(tuple(names.metrics), buckets)

    def frame(self, metric: str, since: datetime, until: datetime, step: timedelta = HOUR) -> pd.DataFrame:
        """Means of every bucket, whichever shards it was on: a row for each window's start, a column for each bucket.

        Float32, NaN where nothing was measured. Windows are of five minutes or an hour, those that begin within
        ``since`` (included) and ``until`` (not included). Additive metrics are summed over the shards, of states the
        largest counts.

        Raises:
            InvalidInput: another ``step``.
        """
        import pandas as pd

        matrix, times, names = self._matrix(metric, since, until, _level(step))
        known = np.flatnonzero(~np.isnan(matrix).all(axis=1))
        columns = pd.Index([names[at] for at in known])
        matrix = matrix if len(known) == len(names) else matrix[known]
        return pd.DataFrame(matrix.T, index=index_of(times), columns=columns, copy=False)

    def bucket_series(self, metric: str, since: datetime, until: datetime) -> dict[str, pd.Series[float]]:
        """Hourly means of every bucket, as `frame` has them; hours without a sample are missing."""
        return all_series(*self._matrix(metric, since, until, HOURS))

    def shard_series(self, metric: str, since: datetime, until: datetime) -> dict[str, pd.Series[float]]:
        """Hourly means of every shard as it was measured, under the placements of that time."""
        with self._snapshot() as snapshot:
            of = snapshot.names.metrics.get(metric)
            rows = {} if of is None else snapshot.rows(HOURS, of, since, until, columns=1)
            shards = snapshot.names.shards
        series = {
            shard: series_of(rows[number].values[:, 0], rows[number].ts)
            for shard, number in shards.items()
            if number in rows
        }
        return {shard: one for shard, one in series.items() if len(one)}

    def series(
        self,
        shard: str | None,
        bucket: str | None,
        metric: str,
        since: datetime,
        until: datetime,
        step: timedelta | None = None,
    ) -> pd.Series[float]:
        """One series: of a shard as a whole, of a bucket on that shard, or (``shard`` None) of a bucket anywhere.

        ``step``: None for samples as measured, five minutes or an hour for means. Empty if nothing is known.

        Raises:
            InvalidInput: another ``step``; neither shard nor bucket.
        """
        if shard is None and bucket is None:
            raise InvalidInput("shard", "a series is of a shard, of a bucket, or of a bucket on a shard")
        level = RAW if step is None else _level(step)
        with self._snapshot() as snapshot:
            names = snapshot.names
            of = names.metrics.get(metric)
            columns = {
                names.shards[name]: names.members[names.shards[name]].index(bucket or "")
                for name in (names.shards if shard is None else names.shards.keys() & {shard})
                if (bucket or "") in names.members[names.shards[name]]
            }
            if of is None or not columns:
                return series_of(np.empty(0, np.float32), np.empty(0, np.int64))
            rows = snapshot.rows(level, of, since, until, list(columns), max(columns.values()) + 1)
        here = {one: _only(rows[one], columns[one]) for one in rows if columns[one] < rows[one].width}
        times = times_of(here)
        alone = dict.fromkeys(here, np.zeros(1, np.intp))
        return series_of(by_bucket(here, alone, (1, times), additive=of.additive)[0], times)

    def count_live(self, since: datetime, until: datetime) -> int:
        """How many samples of these hours `collect` took."""
        with transaction(self._control, snapshot=True) as conn:
            row = conn.execute(statement("load_count_live"), {"since": since, "until": until}).fetchone()
            assert row is not None
            return int(row[0])

    def sizes(self) -> dict[str, int]:
        """Bytes of every bucket by its newest sample of the last 30 days; of two shards' at once the larger."""
        with self._snapshot() as snapshot:
            of = snapshot.names.metrics.get(SIZE)
            newest = None if of is None else snapshot.newest(of)
            if of is None or newest is None:
                return {}
            names, numbers = snapshot.names.buckets()
            found = np.full(len(names), np.nan, np.float32)
            until = newest + MICROSECOND
            for level, back in ((RAW, PRESENT), *((HOURS, within) for within in _SIZES_WITHIN)):
                rows = snapshot.rows(level, of, until - back, until)
                matrix = by_bucket(rows, numbers, (len(names), times_of(rows)), additive=False)
                found = np.where(np.isnan(found), _last_known(matrix), found)
                if not np.isnan(found).any():
                    break
        return {
            name: int(size) for name, size in zip(names, found.tolist(), strict=True) if not np.isnan(size)
        }

    def present(self, now: datetime) -> Present:
        """Means over the last quarter of an hour, by the rule of `load.rollup`."""
        begin = now - PRESENT
        since, until = begin + MICROSECOND, now + MICROSECOND
        window = Windows(PRESENT // MICROSECOND, 60_000_000, microseconds(begin), of_samples=True)
        shards: dict[str, dict[str, float]] = {}
        buckets: dict[str, dict[str, float]] = {}
        with self._snapshot() as snapshot:
            bucket_names, numbers = snapshot.names.buckets()
            shard_names = {number: name for name, number in snapshot.names.shards.items()}
            for name, of in snapshot.names.metrics.items():
                rows = snapshot.rows(RAW, of, since, until)
                means = roll_up(rows, window, snapshot.several, additive=of.additive)
                for number, one in means.items():
                    if not np.isnan(one.values[0, 0]):
                        shards.setdefault(shard_names[number], {})[name] = float(one.values[0, 0])
                times = np.array([microseconds(begin)], np.int64)
                values = by_bucket(means, numbers, (len(bucket_names), times), additive=of.additive)[:, 0]
                for at in np.flatnonzero(~np.isnan(values)):
                    buckets.setdefault(bucket_names[at], {})[name] = float(values[at])
        return Present(shards, buckets)

    def newest(self, shard: str) -> tuple[datetime, dict[str, float]] | None:
        """The newest live samples of a shard as a whole, and when they were taken; None if there are none.

        What is an hour older than the newest sample of any shard counts as none.
        """
        with transaction(self._control, snapshot=True) as conn:
            rows = conn.execute(statement("load_newest"), {"shard": shard}).fetchall()
        if not rows:
            return None
        return rows[0][0], {metric: float(value) for ts, metric, value in rows if ts == rows[0][0]}

    def _matrix(
        self, metric: str, since: datetime, until: datetime, level: Level
    ) -> tuple[Matrix, Numbers, list[str]]:
        """A row for each bucket, a column for each time; the times, and the buckets."""
        with self._snapshot() as snapshot:
            of = snapshot.names.metrics.get(metric)
            rows = {} if of is None else snapshot.rows(level, of, since, until)
            names, numbers = snapshot.names.buckets()
        times = times_of(rows)
        additive = of is not None and of.additive
        return by_bucket(rows, numbers, (len(names), times), additive=additive), times, names

    @contextmanager
    def _snapshot(self) -> Iterator[LoadSnapshot]:
        with transaction(self._control, snapshot=True) as conn:
            yield LoadSnapshot(conn)


def _level(step: timedelta) -> Level:
    for level in (FIVE_MINUTES, HOURS):
        if level.step == step:
            return level
    raise InvalidInput("step", f"{step} is not one that is kept", remedy="Use five minutes or an hour.")


def _last_known(matrix: Matrix) -> Matrix:
    """Of each row the last value that is none of its gaps; NaN if it has gaps only."""
    if not matrix.shape[1]:
        return np.full(len(matrix), np.nan, np.float32)
    last = matrix.shape[1] - 1 - np.argmax(~np.isnan(matrix[:, ::-1]), axis=1)
    found: Matrix = matrix[np.arange(len(matrix)), last]
    return found


def _only(rows: Rows, column: int) -> Rows:
    """Behind the shard's own column, which `by_bucket` leaves out, this one and no other."""
    return Rows(rows.ts, rows.values[:, [0, column]], rows.live)
