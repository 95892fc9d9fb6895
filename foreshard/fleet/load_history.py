"""The load of the airline's shards, derived from its real flights: history, capacities, and the live rate.

Every passenger of a flight looks at it once in ``LOOK_EVERY_S`` seconds from ``BEFORE_DEPARTURE`` until it
lands. So a bucket's queries/s at an instant is the number of passengers of its flights in that window divided by
``LOOK_EVERY_S``. Passengers are the seats of the aircraft (``DEFAULT_SEATS`` where the registry has none), and
the flight takes what its distance takes, since a schedule knows no delays. An hour's value is the exact mean.

The fleet's clock starts at ``FLEET_START``, 13:00 in New York on the day before Thanksgiving 2013: the flights of
that very day are the present and the coming hours, so weekday, hour and season are the source's own, with no
mapping between calendars. The six weeks before are the history; the clocks went back in them (3 November).

With the capacities below and the first placement, at 13:00 that day no shard carries more than 0.70 of what it
can bear; in six weeks shard-3 came to 0.97 once and the others to 0.65. That evening's flights bring shard-3 to
0.92 by themselves and to 1.24 with the getaway's effect, the others to 0.71. Without the calendar no excess is in
sight; with it, one is, and hours ahead. ``tests/unit/fleet/test_load_history.py`` holds these figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd

from foreshard.fleet.flights import BUCKETS, Airline
from foreshard.forecast.calendar import Event
from foreshard.forecast.series import STEP
from foreshard.load.sample import Sample
from foreshard.topology.placement import Placement

FLEET_START = datetime(2013, 11, 27, 18, tzinfo=UTC)
HISTORY = timedelta(weeks=6)

BEFORE_DEPARTURE = timedelta(hours=1)
LOOK_EVERY_S = 100.0
DEFAULT_SEATS = 150
TAXI_MINUTES = 40.0
MILES_PER_MINUTE = 7.5

GETAWAY_EFFECT = 1.35

GETAWAY = Event(
    name="Thanksgiving getaway",
    starts_at=datetime(2013, 11, 27, 20, tzinfo=UTC),  # 15:00 in New York
    ends_at=datetime(2013, 11, 28, 2, tzinfo=UTC),
    effect=GETAWAY_EFFECT,
)

CAPACITY: Mapping[str, float] = {
    "queries_per_s": 216.0,
    "cpu_cores": 2.0,
    "memory_bytes": 4.0 * 2**30,
    "io_bytes_per_s": 200e6,
}
"""What one shard can bear, by metric. All shards are alike. Queries are what runs out first."""

COST: Mapping[str, tuple[float, float]] = {
    "cpu_cores": (0.002, 0.0005),
    "memory_bytes": (35e6, 0.8e6),
    "io_bytes_per_s": (5e3, 20e3),
}
"""What a server uses by itself, and for each query a second: about what the embedded servers were seen to use."""

NOISE = 0.02  # standard deviation of one hour's CPU, memory and I/O, as a share
NOISE_SEED = 20131127

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Steps:
    """Passengers that join (or leave) at known instants; ``at`` in seconds since the epoch, increasing."""

    at: Floats
    passengers: Floats

    @classmethod
    def of(cls, at: Floats, passengers: Floats) -> _Steps:
        order = np.argsort(at, kind="stable")
        return cls(at[order], passengers[order])

    def until(self, t: Floats) -> Floats:
        """How many have joined by ``t``."""
        totals: Floats = np.concatenate([[0.0], np.cumsum(self.passengers)])
        return totals[np.searchsorted(self.at, t, side="right")]

    def integral(self, t: Floats) -> Floats:
        """Passenger-seconds up to ``t``: each counts from the instant it joined."""
        moments: Floats = np.concatenate([[0.0], np.cumsum(self.passengers * self.at)])
        return t * self.until(t) - moments[np.searchsorted(self.at, t, side="right")]


class Demand:
    """Queries per second that the airline's passengers make, per bucket."""

    def __init__(self, airline: Airline) -> None:
        flights = airline.flights
        seats = flights["tailnum"].map(airline.aircraft.set_index("tailnum")["seats"])
        frame = pd.DataFrame(
            {
                "bucket": flights["bucket"],
                "departure": (flights["sched_dep"] - pd.Timestamp(0, tz="UTC")).dt.total_seconds(),
                "minutes": TAXI_MINUTES + flights["distance"] / MILES_PER_MINUTE,
                "passengers": seats.fillna(DEFAULT_SEATS).astype(float),
            }
        )
        self._windows: dict[str, tuple[_Steps, _Steps]] = {}
        for bucket, rows in frame.groupby("bucket"):
            departure, passengers = rows["departure"].to_numpy(), rows["passengers"].to_numpy()
            begin = departure - BEFORE_DEPARTURE.total_seconds()
            end = departure + 60.0 * rows["minutes"].to_numpy()
            self._windows[str(bucket)] = _Steps.of(begin, passengers), _Steps.of(end, passengers)

    def rate_at(self, bucket: str, fleet_time: datetime) -> float:
        """Queries/s of ``bucket`` at that instant of the fleet's clock; the getaway counts once it has begun."""
        if bucket not in self._windows:
            return 0.0
        t = np.array([fleet_time.timestamp()])
        joined, left = self._windows[bucket]
        ordinary = float(joined.until(t)[0] - left.until(t)[0]) / LOOK_EVERY_S
        return ordinary * (GETAWAY_EFFECT if GETAWAY.starts_at <= fleet_time < GETAWAY.ends_at else 1.0)

    def hourly(self, start: datetime, end: datetime) -> pd.DataFrame:
        """Mean queries/s of each hour from ``start`` up to ``end``, without the getaway.

        Index: the hours' starts in UTC; one column a bucket.
        """
        hours = pd.date_range(start, end, freq="h", inclusive="left")
        edges = np.array([hour.timestamp() for hour in hours])
        columns = {}
        for bucket in BUCKETS:
            if bucket not in self._windows:
                columns[bucket] = np.zeros(len(hours))
                continue
            joined, left = self._windows[bucket]
            waiting = joined.integral(edges + 3600) - joined.integral(edges)
            gone = left.integral(edges + 3600) - left.integral(edges)
            columns[bucket] = (waiting - gone) / 3600 / LOOK_EVERY_S
        return pd.DataFrame(columns, index=hours)

    def history(self, placement: Placement, shards: Iterable[str]) -> Iterator[Sample]:
        """Six weeks of hourly samples up to ``FLEET_START``: of every bucket on its shard, and of every shard."""
        start = FLEET_START - HISTORY
        buckets = self.hourly(start, FLEET_START)
        for bucket in BUCKETS:
            yield from _samples(buckets[bucket], placement.shard_of(bucket), bucket, "queries_per_s")
        for shard in shards:
            queries = buckets[list(placement.buckets_on(shard))].sum(axis=1)
            yield from _samples(queries, shard, None, "queries_per_s")
            for metric, values in resources(queries, shard).items():
                yield from _samples(values, shard, None, metric)


def resources(queries: pd.Series[float], shard: str) -> dict[str, pd.Series[float]]:
    """CPU, memory and I/O of a shard that answers ``queries`` a second; the noise is the same in every run."""
    found = {}
    for metric, (own, each) in COST.items():
        generator = np.random.default_rng([NOISE_SEED, *f"{shard}/{metric}".encode()])
        # Clipped: noise must not make an hour that nobody would believe.
        noise = np.clip(generator.normal(1.0, NOISE, len(queries)), 1 - 3 * NOISE, 1 + 3 * NOISE)
        found[metric] = (own + each * queries) * noise
    return found


def _samples(values: pd.Series[float], shard: str, bucket: str | None, metric: str) -> Iterator[Sample]:
    """A sample bears the end of the hour that it is the mean of."""
    for ts, value in values.items():
        assert isinstance(ts, pd.Timestamp)
        yield Sample(ts.to_pydatetime() + STEP, shard, bucket, metric, float(value))
