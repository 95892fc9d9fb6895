"""Samples into the table of raw load."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Literal

import psycopg

from foreshard.control import load_partitions
from foreshard.control.engine import ControlDatabase
from foreshard.control.load_levels import FIVE_MINUTES, RAW, window_of
from foreshard.control.load_names import NameKeeper
from foreshard.control.load_rows import Row, batches, columns
from foreshard.control.load_sql import statement, transaction
from foreshard.errors import InvalidInput
from foreshard.load.sample import Sample

Source = Literal["history", "live"]

SAMPLES = "foreshard.load.samples"
"""The advisory lock that who adds samples shares, and that who claims marks or drops partitions has alone."""

_SHARE = "SELECT pg_advisory_xact_lock_shared(hashtext(%s))"
_MARK = """
INSERT INTO load_marks (step, claimed, start)
SELECT %s, false, start FROM unnest(%s::timestamptz[]) AS given (start) ORDER BY start
ON CONFLICT DO NOTHING
"""
_SMALLEST = 1e-37
"""Below it single precision ends: it is taken as nothing."""

Groups = dict[tuple[str, datetime, str], dict[str, float]]


class LoadWriter:
    """Stores samples that are not there yet. To be shared by threads."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control
        self._names = NameKeeper(control)

    def put(
        self,
        samples: Iterable[Sample],
        source: Source,
        *,
        only_if: Callable[[psycopg.Connection], bool] | None = None,
        mark: bool = True,
    ) -> int | None:
        """Store them in one transaction; returns how many values are new.

        ``only_if`` is asked in that transaction: if it says no, nothing is stored and None returned. ``mark``: the
        windows are to be rolled up (again).

        Raises:
            InvalidInput: a time without a time zone, a name that no metric can have.
        """
        groups = grouped(samples)
        rows = self._rows(groups, source)
        times = {ts for _, ts, _ in groups}
        partitions = load_partitions.needed(RAW, times)
        while True:
            with transaction(self._control) as conn:
                conn.execute(_SHARE, [SAMPLES])
                lacking = load_partitions.missing(conn, partitions)
                if not lacking:
                    if only_if is not None and not only_if(conn):
                        return None
                    new = sum(_insert(conn, batch) for batch in batches(rows))
                    if mark and new:
                        mark_windows(conn, {window_of(ts) for ts in times})
                    return new
            # Before the samples and apart from them, so that nobody waits for these.
            with transaction(self._control) as conn:
                load_partitions.make(conn, lacking)

    def _rows(self, groups: Groups, source: Source) -> list[Row]:
        buckets: dict[str, set[str]] = {}
        for (_, _, shard), values in groups.items():
            buckets.setdefault(shard, set()).update(values)
        self._names.know({metric for metric, _, _ in groups}, buckets)
        rows = []
        for (metric, ts, shard), values in groups.items():
            positions = self._names.positions(shard)
            at = {positions[bucket]: value for bucket, value in values.items()}
            amounts = [at.get(position) for position in range(max(at) + 1)]
            live = len(values) if source == "live" else 0
            rows.append(Row(self._names.metric(metric), ts, self._names.shard(shard), live, amounts))
        return sorted(rows, key=lambda row: (row.metric, row.ts, row.shard))


def grouped(samples: Iterable[Sample]) -> Groups:
    """By metric, time and shard the values of the buckets, '' is the shard itself. Of two values the first counts."""
    groups: Groups = {}
    for one in samples:
        if one.ts.tzinfo is None:
            raise InvalidInput("ts", f"{one.ts.isoformat()} has no time zone")
        value = float(one.value)
        if 0 < value < _SMALLEST:
            value = 0.0
        groups.setdefault((one.metric, one.ts, one.shard), {}).setdefault(one.bucket or "", value)
    return groups


def mark_windows(conn: psycopg.Connection, windows: Iterable[datetime]) -> None:
    """The five minutes that begin then are to be rolled up."""
    conn.execute(_MARK, [FIVE_MINUTES.name, sorted(windows)])


def _insert(conn: psycopg.Connection, rows: Iterable[Row]) -> int:
    by_key: Mapping[tuple[int, datetime, int], Row] = {(row.metric, row.ts, row.shard): row for row in rows}
    insert = statement("load_insert").format(table=RAW.table)
    stored = set(conn.execute(insert, columns(list(by_key.values()))).fetchall())
    new = sum(_count(by_key[key]) for key in stored)
    there = [row for key, row in by_key.items() if key not in stored]
    if there:
        new += sum(fresh for (fresh,) in conn.execute(statement("load_merge"), columns(there)).fetchall())
    return new


def _count(row: Row) -> int:
    return sum(value is not None for value in row.amounts)
