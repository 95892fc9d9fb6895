"""How busy the source is while rows are read from it, and what the forecast leaves for reading them.

Of a server on this machine the operating system tells its CPU each second, the copy's own part included. Of one
elsewhere the newest samples count, which are minutes old: there the forecast matters more.
"""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta

from foreshard.errors import ForeshardError, ShardUnavailable
from foreshard.forecast.series import STEP, SeriesKey
from foreshard.load.instant import CollectorClock
from foreshard.load.process import (
    ProcessReading,
    leads_here,
    postmaster_of,
    process_samples,
    read_process,
)
from foreshard.migration.copying.pace import Pace
from foreshard.migration.work import Work
from foreshard.postgres.connect import connect

logger = logging.getLogger(__name__)

CPU = "cpu_cores"
FIRST_LOOK_S = 0.5
STALE = timedelta(minutes=3)
"""Samples older than this say nothing about now."""


class SourceUse:
    """The source's utilisation: the busiest resource's share of its capacity."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._shard = work.source.name
        self._limit = work.settings.backfill_max_utilisation
        self._capacity = {name: float(value) for name, value in work.source.capacity.items() if value}
        self._pid = self._postmaster() if CPU in self._capacity else None
        self._clock = CollectorClock(work.clock)
        self._before: ProcessReading | None = None
        self._seen: datetime | None = None

    def begin(self, pace: Pace) -> None:
        """Set out with the headroom that forecast and present load leave, over what a copy takes of capacity."""
        policy = self._work.policy
        known = [use for use in (self.expected(), self._first_look()) if use is not None]
        if known and policy.copy_load:
            share = (self._limit - max(known)) / policy.copy_load
            pace.begin(max(0.0, share) * policy.copy_bytes_per_s)

    def follow(self, pace: Pace, present_bytes_per_s: float) -> None:
        """Adjust the pace to what the source bears now; a source of which nothing new is known is left as it is."""
        now = self._now()
        if now is not None:
            pace.follow(now, self._limit, present_bytes_per_s)

    def _first_look(self) -> float | None:
        """The utilisation before anything is copied."""
        if self._pid is not None:
            self._of_process()
            time.sleep(FIRST_LOOK_S)
        return self._now()

    def _now(self) -> float | None:
        return self._of_process() if self._pid is not None else self._of_samples()

    def expected(self) -> float | None:
        """The forecast of this hour at the policy's quantile; None without a forecast that covers it."""
        newest, now = self._work.forecasts.newest(), self._work.clock.now()
        if newest is None:
            return None
        results = self._work.forecasts.results(newest.id)
        shares = []
        for metric, capacity in self._capacity.items():
            found = results.get(SeriesKey(self._shard, None, metric))
            if found is not None:
                steps = found.band.at(self._work.policy.predicted_quantile)
                step = (now - found.band.ts[0].to_pydatetime()) // STEP
                if 0 <= step < len(steps):
                    shares.append(float(steps[step]) / capacity)
        return max(shares) if shares else None

    def _postmaster(self) -> int | None:
        """The source's, if it runs on this machine."""
        if not leads_here(self._work.source.dsn):
            return None
        try:
            with connect(self._work.source.dsn) as conn:
                return postmaster_of(conn)
        except ShardUnavailable:
            return None

    def _of_process(self) -> float | None:
        """CPU since the last look, from the operating system."""
        assert self._pid is not None
        try:
            reading = read_process(self._pid, self._shard, self._clock.now())
        except ForeshardError as gone:
            logger.info("the processes of %s cannot be read: %s", self._shard, gone)
            return None
        before, self._before = self._before, reading
        samples = process_samples(self._shard, reading.at.wall, before, reading)
        cores = [one.value for one in samples if one.metric == CPU]
        return cores[0] / self._capacity[CPU] if cores else None

    def _of_samples(self) -> float | None:
        newest = self._work.loads.newest(self._shard)
        if newest is None or newest[0] == self._seen or self._work.clock.now() - newest[0] > STALE:
            return None
        self._seen, values = newest
        shares = [
            value / self._capacity[metric] for metric, value in values.items() if metric in self._capacity
        ]
        return max(shares) if shares else None
