"""Rebuild shards' histories as if their buckets had always lain as a placement says, the present one or an imagined.

A shard's own history tells of old placements; the sum of its buckets under this one does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from operator import itemgetter
from zoneinfo import ZoneInfo

import numpy as np

from foreshard.errors import InvalidInput
from foreshard.forecast.activity import Activity, Rows, Values
from foreshard.forecast.apportionment import Apportionment, work
from foreshard.forecast.calendar import Event
from foreshard.forecast.least_squares import Floats, Mask
from foreshard.forecast.panel import Panel
from foreshard.forecast.series import SeriesKey
from foreshard.topology.placement import Placement

KEPT = 4
"""So many histories of each shard are kept: a plan is tried on two shards after the other, the rest stays."""


@dataclass(frozen=True, eq=False)
class FleetLoad:
    """What is known of a fleet's load on one grid of ``windows`` steps.

    ``activity`` of the buckets; its first kind, of a whole shard, is the sum of its buckets' and has no own part.
    ``apportioned``: the metrics that follow activity. ``measured``: by metric and shard those that do not, shape
    (windows,): they stay with their shard, whatever moves.
    """

    activity: Activity
    apportioned: Mapping[str, Apportionment]
    measured: Mapping[str, Mapping[str, Floats]]
    starts_at: datetime
    step: timedelta
    windows: int
    timezone: ZoneInfo
    events: tuple[Event, ...] = ()
    _rebuilt: dict[str, dict[bytes, Values]] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Those that shards' histories can be rebuilt of."""
        return self.activity.kinds[0], *self.apportioned, *self.measured

    def shard_panel(self, placement: Placement, shards: Sequence[str], metrics: Sequence[str]) -> Panel:
        """The histories of ``shards`` in ``metrics`` under ``placement``: by metric, then by shard.

        A step is the sum of the shard's buckets plus its own part, a gap if any of them has one, and never below 0,
        although the own part is where buckets cost less than they commonly do. A bucket that was never measured is
        in the own part of the shard that it lies on, and counts as nothing; a shard with none but such buckets has
        no history. The own part of a shard before it was first measured is the median of what it was then; a shard
        of which nothing was ever known is new: it has none, and was idle when the fleet was known.

        Only shards whose buckets are others than in the last calls are summed anew. Not to be shared by threads.

        Raises ``InvalidInput`` (field ``metrics``) for a metric that is not there.
        """
        unknown = [metric for metric in metrics if metric not in self.metrics]
        if unknown:
            raise InvalidInput(
                "metrics",
                f"nothing is known of {', '.join(unknown)}.",
                remedy=f"Known are {', '.join(self.metrics)}.",
            )
        chosen = [self.metrics.index(metric) for metric in metrics]
        here = self._rows(placement, frozenset(shards))
        values = np.empty((len(metrics), len(shards), self.windows), np.float32)
        for at, shard in enumerate(shards):
            values[:, at] = self._history(shard, here.get(shard))[chosen]
        keys = tuple(SeriesKey(shard, None, metric) for metric in metrics for shard in shards)
        flat = values.reshape(len(keys), self.windows)
        return Panel(keys, flat, self.starts_at, self.step, self.timezone, self.events)

    def _rows(self, placement: Placement, shards: frozenset[str]) -> dict[str, Rows]:
        """Of each of ``shards`` that is not empty: the rows of its measured buckets."""
        found: dict[str, list[int]] = {}
        for bucket, shard in placement.of.items():
            if shard in shards:
                rows = found.setdefault(shard, [])
                if bucket in self._row:
                    rows.append(self._row[bucket])
        return {shard: np.sort(np.array(rows, np.intp)) for shard, rows in found.items()}

    @cached_property
    def _row(self) -> dict[str, int]:
        measured = np.logical_or.reduce(self.activity.known, axis=1)
        return {name: row for row, name in enumerate(self.activity.buckets) if measured[row]}

    @cached_property
    def _cost(self) -> Floats:
        """Shape (buckets, kinds, metrics that follow the buckets); the first kind is 1 of itself."""
        itself = np.zeros((len(self.activity.buckets), len(self.activity.kinds)))
        itself[:, 0] = 1.0
        return np.stack([itself, *(one.cost for one in self.apportioned.values())], axis=2)

    @cached_property
    def _awake(self) -> Mapping[str, Mask]:
        """Of each metric the windows in which anything is known of it, on any shard."""
        known = {metric: [~np.isnan(own) for own in self._own(metric).values()] for metric in self.metrics}
        if self.activity.buckets:
            known[self.activity.kinds[0]] = [np.logical_or.reduce(self.activity.known, axis=0)]
        nothing = np.zeros(self.windows, dtype=bool)
        return {metric: np.any([nothing, *of], axis=0) for metric, of in known.items()}

    @cached_property
    def _begin(self) -> Mapping[str, int]:
        """Of each shard that anything was ever known of, the first window in which it was."""
        found = [(shard, at) for one in self.apportioned.values() for shard, at in one.since.items()]
        known = [(shard, ~np.isnan(one.values[:, 0]).all(axis=0)) for shard, one in self.activity.on.items()]
        known += [(shard, ~np.isnan(own)) for one in self.measured.values() for shard, own in one.items()]
        found += [(shard, int(windows.argmax())) for shard, windows in known if windows.any()]
        return dict(sorted(found, key=itemgetter(1), reverse=True))  # of several the last, and least, stays

    def _own(self, metric: str) -> Mapping[str, Floats]:
        return self.apportioned[metric].own if metric in self.apportioned else self.measured.get(metric, {})

    def _history(self, shard: str, rows: Rows | None) -> Values:
        """Shape (metrics, windows). ``rows``: of its measured buckets, None if there is no bucket at all."""
        kept = self._rebuilt.setdefault(shard, {})
        key = b"empty" if rows is None else rows.tobytes()
        found = kept.pop(key, None)
        if found is None:
            found = self._sum(shard, np.empty(0, np.intp) if rows is None else rows, empty=rows is None)
        if len(kept) == KEPT:
            del kept[next(iter(kept))]  # the one that was not asked for longest
        kept[key] = found
        return found

    def _sum(self, shard: str, rows: Rows, *, empty: bool) -> Values:
        idle = empty or len(rows) > 0
        found = np.stack([self._alone(metric, shard, idle=idle) for metric in self.metrics])
        if len(rows):
            found[: self._cost.shape[2]] += work(self.activity.everywhere[rows], self._cost[rows])
        return np.maximum(found, 0.0).astype(np.float32)

    def _alone(self, metric: str, shard: str, *, idle: bool) -> Floats:
        """The shard's own part. ``idle``: without its measured buckets there is nothing on it."""
        own = self._own(metric).get(shard)
        begin = self._begin.get(shard)
        if own is None:
            none = idle and (begin is None or metric == self.activity.kinds[0])
            return np.where(self._awake[metric] & none, 0.0, np.nan)
        if begin and metric in self.apportioned and not np.isnan(own).all():
            return np.where(np.arange(self.windows) < begin, np.nanmedian(own), own)
        return own
