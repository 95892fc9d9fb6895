"""Rebuild shards' histories as if their buckets had always lain as a placement says, the present one or an imagined.

A shard's own history tells of old placements; the sum of its buckets under this one does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    _rebuilt: dict[tuple[str, bytes], Values] = field(default_factory=dict, init=False, repr=False)

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
        here = self._rows(placement)
        values = np.empty((len(metrics), len(shards), self.windows), np.float32)
        for at, shard in enumerate(shards):
            values[:, at] = self._history(shard, here.get(shard, _NO_BUCKETS), inhabited=shard in here)[
                chosen
            ]
        keys = [SeriesKey(shard, None, metric) for metric in metrics for shard in shards]
        return self._panel(keys, values.reshape(-1, self.windows))

    def _panel(self, keys: Iterable[SeriesKey], values: Values) -> Panel:
        return Panel(tuple(keys), values, self.starts_at, self.step, self.timezone, self.events)

    def _rows(self, placement: Placement) -> dict[str, Rows]:
        """Of every shard that is not empty: the rows of its measured buckets."""
        found: dict[str, list[int]] = {}
        for bucket, shard in placement.of.items():
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

    def _history(self, shard: str, rows: Rows, *, inhabited: bool) -> Values:
        """Shape (metrics, windows)."""
        key = shard, rows.tobytes() + bytes([inhabited])
        if key not in self._rebuilt:
            kept = [old for old in self._rebuilt if old[0] == shard]
            for old in kept[: len(kept) - KEPT + 1]:
                del self._rebuilt[old]
            self._rebuilt[key] = self._sum(shard, rows, unknown=inhabited and not len(rows))
        return self._rebuilt[key]

    def _sum(self, shard: str, rows: Rows, *, unknown: bool) -> Values:
        found = np.stack([self._alone(metric, shard, unknown=unknown) for metric in self.metrics])
        if len(rows):
            found[: self._cost.shape[2]] += work(self.activity.everywhere[rows], self._cost[rows])
        return np.maximum(found, 0.0).astype(np.float32)

    def _alone(self, metric: str, shard: str, *, unknown: bool) -> Floats:
        """The shard's own part. ``unknown``: it has buckets, and nothing was ever known of any of them."""
        own = self._own(metric).get(shard)
        begin = self._begin.get(shard)
        if own is None:
            idle = not unknown and (begin is None or metric == self.activity.kinds[0])
            return np.where(self._awake[metric] & idle, 0.0, np.nan)
        if begin and metric in self.apportioned and not np.isnan(own).all():
            return np.where(np.arange(self.windows) < begin, np.nanmedian(own), own)
        return own


_NO_BUCKETS: Rows = np.empty(0, np.intp)
