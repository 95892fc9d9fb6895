"""Histories of load from files. The whole file is checked first; only then is any of it stored."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import available_timezones

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from foreshard.errors import InvalidInput
from foreshard.load.history_columns import (
    INSTANT,
    BadValue,
    ClockChange,
    check_unit,
    instants,
    metrics,
    names,
    numbers,
    refuse_after,
    refuse_metrics,
)
from foreshard.load.history_reader import HistoryReader
from foreshard.load.history_summary import Summary
from foreshard.load.sample import Sample

_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True)
class Layout:
    """Which column says what. What no column says is said once, for all rows.

    ``values``: column -> metric, where each metric has a column; else `value_column` holds all.
    ``rename``: a metric's name in the file -> ours; '' leaves its rows out.
    ``timezone``: IANA name, of times that name none.
    ``ts_shift`` is added to each time: the length of a row's interval, where the file has its beginning.
    """

    ts_column: str = "ts"
    shard_column: str = "shard"
    bucket_column: str | None = None
    metric_column: str = "metric"
    value_column: str = "value"
    shard: str | None = None
    metric: str | None = None
    values: Mapping[str, str] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)
    timezone: str | None = None
    clock_change: ClockChange = "refuse"
    ts_shift: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        if self.timezone is not None and self.timezone not in available_timezones():
            raise InvalidInput(
                "--timezone",
                f"{self.timezone!r} is not a time zone",
                remedy="An IANA name, e.g. Europe/Paris.",
            )
        for metric in (self.metric, *self.values.values(), *self.rename.values()):
            if metric:
                check_unit(metric)

    @property
    def columns(self) -> dict[str, str]:
        """The columns that are read, by what they say."""
        found = {"ts": self.ts_column}
        if self.shard is None:
            found["shard"] = self.shard_column
        if self.bucket_column is not None:
            found["bucket"] = self.bucket_column
        if self.metric is None and not self.values:
            found["metric"] = self.metric_column
        return found

    @property
    def value_columns(self) -> Mapping[str, str | None]:
        """Columns of values, each with the metric that it is of, if it is of one."""
        return self.values or {self.value_column: self.metric}


@dataclass(frozen=True)
class KnownFleet:
    """What samples may be of, and the time after which none can have been measured."""

    shards: Collection[str]
    buckets: Collection[str]
    now: datetime


class HistoryFile:
    """One file, read by one layout, for one fleet.

    Raises InvalidInput, which names the file and the column or option, if the file lacks a column.
    """

    def __init__(self, reader: HistoryReader, layout: Layout, fleet: KnownFleet) -> None:
        self._reader = reader
        self._layout = layout
        self._fleet = fleet
        if layout.shard is not None and layout.shard not in fleet.shards:
            raise InvalidInput("--shard", f"{layout.shard!r} is no shard of this fleet")
        present = reader.columns()
        if layout.bucket_column is None and "bucket" in present:
            self._layout = layout = replace(layout, bucket_column="bucket")
        wanted = dict(layout.columns) | {f"value {name}": name for name in layout.value_columns}
        for says, column in wanted.items():
            if present.count(column) != 1:
                problem = (
                    f"has no column {column!r}" if column not in present else f"has two columns {column!r}"
                )
                raise InvalidInput(
                    str(reader.path),
                    f"{problem} ({says}); its columns: {', '.join(present[:12])}",
                    remedy="Options say which column says what, see --help.",
                )
        self._columns = list(dict.fromkeys(wanted.values()))

    @property
    def path(self) -> Path:
        return self._reader.path

    def check(self) -> Iterator[tuple[Summary, float]]:
        """Reads all of it and stores nothing: what it holds so far, and the share that was read.

        Raises InvalidInput that names file, line (CSV) or row (Parquet) and column of what cannot be used.
        """
        summary = Summary()
        for rows, done in self._rows():
            summary.add(rows)
            yield summary, done

    def samples(self) -> Iterator[tuple[list[Sample], float]]:
        """All samples, a batch at a time, and the share that was read. Errors as those of `check`."""
        for rows, done in self._rows():
            known = rows[rows["value"].notna()]
            yield (
                [
                    Sample(_EPOCH + timedelta(microseconds=us), shard, bucket or None, metric, value)
                    for us, shard, bucket, metric, value in zip(
                        *(known[name].tolist() for name in ("us", "shard", "bucket", "metric", "value")),
                        strict=True,
                    )
                ],
                done,
            )

    def _rows(self) -> Iterator[tuple[pd.DataFrame, float]]:
        at = 0
        for batch, done in self._reader.batches(self._columns):
            for column, metric in self._layout.value_columns.items():
                yield self._decoded(batch, at, column, metric), done
            at += batch.num_rows

    def _decoded(self, batch: pa.RecordBatch, at: int, value_column: str, metric: str | None) -> pd.DataFrame:
        layout, fleet, size = self._layout, self._fleet, batch.num_rows
        column = layout.ts_column
        try:
            times = instants(batch.column(column), layout.timezone, layout.clock_change)
            times = pc.add(times, pa.scalar(layout.ts_shift, pa.duration("us")))
            refuse_after(times, pa.scalar(fleet.now, INSTANT))
            shards, buckets = pa.repeat(layout.shard or "", size), pa.repeat("", size)
            if layout.shard is None:
                column = layout.shard_column
                shards = names(batch.column(column), "shard", fleet.shards)
            if layout.bucket_column is not None:
                column = layout.bucket_column
                buckets = names(batch.column(column), "bucket", fleet.buckets, empty=True)
            kept = None
            of = pa.repeat(metric or "", size)
            if metric is None:
                column = layout.metric_column
                of, kept = self._renamed(metrics(batch.column(column)))
            column = value_column
            values = numbers(batch.column(column))
        except BadValue as bad:
            raise InvalidInput(
                str(self.path),
                f"{self._reader.place(at + bad.row)}, column {column}: {bad.why}",
                remedy=bad.remedy,
            ) from None
        rows = pa.table(
            {"us": times.cast(pa.int64()), "shard": shards, "bucket": buckets, "metric": of, "value": values}
        )
        frame: pd.DataFrame = (rows if kept is None else rows.filter(kept)).to_pandas()
        return frame

    def _renamed(self, found: pa.Array) -> tuple[pa.Array, pa.Array]:
        """The metrics by our names, and which rows are kept."""
        for name, ours in self._layout.rename.items():
            if ours:
                found = pc.if_else(pc.equal(found, name), ours, found)
        left_out = [name for name, ours in self._layout.rename.items() if not ours]
        kept = pc.invert(pc.is_in(found, value_set=pa.array(left_out, pa.string())))
        refuse_metrics(pc.if_else(kept, found, "left_out_s"))
        return found, kept
