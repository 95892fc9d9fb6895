"""Load as of one moment: stored means, and those of windows that are not rolled up yet made on the fly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property

import numpy as np
import psycopg

from foreshard.control.load_levels import FIVE_MINUTES, HOURS, MICROSECOND, RAW, Level, microseconds
from foreshard.control.load_names import LoadNames, Metric
from foreshard.control.load_rows import ALL, read
from foreshard.load.rollup import Rows, Several, overlay, roll_up

_MARKS = "SELECT step, start FROM load_marks"
_HORIZONS = "SELECT name, at FROM load_horizons"

_NEWEST = """
SELECT greatest((SELECT ts FROM load_raw WHERE metric = %(metric)s ORDER BY ts DESC LIMIT 1),
                (SELECT ts FROM load_hours WHERE metric = %(metric)s ORDER BY ts DESC LIMIT 1))
"""

_NEAR = 24
"""Windows at most as many steps apart are read together."""


class LoadSnapshot:
    """What one transaction sees. A window that was marked since it was rolled up is made anew at each reading."""

    def __init__(self, conn: psycopg.Connection) -> None:
        self._conn = conn
        self.names = LoadNames.read(conn)
        marks = conn.execute(_MARKS).fetchall()
        windows = {start for step, start in marks if step == FIVE_MINUTES.name}
        hours = {start for step, start in marks if step == HOURS.name}
        self._marked: Mapping[Level, Sequence[datetime]] = {
            FIVE_MINUTES: sorted(windows),
            HOURS: sorted(hours | {HOURS.start(start) for start in windows}),
        }
        self._horizons: Mapping[str, datetime] = dict(conn.execute(_HORIZONS).fetchall())

    @cached_property
    def several(self) -> Several:
        """The buckets that were ever seen on more than one shard."""
        return self.names.several()

    def newest(self, metric: Metric) -> datetime | None:
        """The time of the newest row of this metric."""
        row = self._conn.execute(_NEWEST, {"metric": metric.id}).fetchone()
        return None if row is None else row[0]

    def rows(
        self,
        level: Level,
        metric: Metric,
        since: datetime,
        until: datetime,
        shards: Sequence[int] | None = None,
        columns: int = ALL,
    ) -> dict[int, Rows]:
        """Rows with ``since`` <= ts < ``until``, by shard: of these shards, at least the first columns."""
        stored = read(self._conn, level, metric.id, since, until, shards, columns)
        if level is RAW:
            return stored
        marked = [start for start in self._marked[level] if since <= start < until]
        for number, one in self.rolled_up(level, metric, marked).items():
            if shards is None or number in shards:
                stored[number] = overlay(stored[number], one) if number in stored else one
        return stored

    def _told(self, level: Level, metric: Metric, first: datetime, end: datetime) -> dict[int, Rows]:
        """Rows that tell of the time from ``first`` to ``end``; samples bear the end of theirs."""
        shift = MICROSECOND if level is RAW else timedelta(0)
        return self.rows(level, metric, first + shift, end + shift)

    def rolled_up(self, level: Level, metric: Metric, starts: Sequence[datetime]) -> dict[int, Rows]:
        """These windows as they are to be stored. Where rows below them may be gone they are filled in only."""
        assert level.below is not None
        assert level.step is not None
        horizon = self._horizons.get(level.below.name)
        found: dict[int, Rows] = {}
        wanted = np.array([microseconds(start) for start in starts], np.int64)
        for first, end in spans(starts, level.step):
            below = self._told(level.below, metric, first, end)
            chosen = {
                shard: one.where(np.isin(level.windows.starts(one.ts), wanted))
                for shard, one in below.items()
            }
            fresh = roll_up(chosen, level.windows, self.several, additive=metric.additive)
            if horizon is not None and first < horizon:
                stored = read(self._conn, level, metric.id, first, min(end, horizon))
                fresh = {
                    shard: overlay(one, _only(stored[shard], one)) if shard in stored else one
                    for shard, one in fresh.items()
                }
            for shard, one in fresh.items():
                found[shard] = overlay(found[shard], one) if shard in found else one
        return found


def spans(starts: Iterable[datetime], step: timedelta) -> Iterator[tuple[datetime, datetime]]:
    """From the start of the first to the end of the last window, of windows that lie near to each other."""
    first = last = None
    for start in sorted(starts):
        if last is None or first is None:
            first = start
        elif start > last + _NEAR * step:
            yield first, last + step
            first = start
        last = start
    if first is not None and last is not None:
        yield first, last + step


def _only(stored: Rows, fresh: Rows) -> Rows:
    return stored.where(np.isin(stored.ts, fresh.ts))
