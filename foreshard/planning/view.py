"""What the planner sees: the fleet's present and its forecasts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import pandas as pd

from foreshard.errors import InvalidInput
from foreshard.forecast.band import Band
from foreshard.forecast.series import STEP
from foreshard.planning.learnt_rates import LearntRates


@dataclass(frozen=True, eq=False)
class BucketView:
    """A bucket on its shard. ``band`` is of its ``queries_per_s``; ``current`` is per metric, in its unit."""

    name: str
    shard: str
    size_bytes: int
    current: Mapping[str, float]
    band: Band
    last_moved_at: datetime | None = None

    def __post_init__(self) -> None:
        if self.size_bytes < 0:
            raise InvalidInput("size_bytes", f"bucket {self.name}: {self.size_bytes} is below zero")
        _check_loads("current", f"bucket {self.name}", self.current)
        if self.last_moved_at is not None and self.last_moved_at.tzinfo is None:
            raise InvalidInput("last_moved_at", f"bucket {self.name}: {self.last_moved_at} has no time zone")


@dataclass(frozen=True, eq=False)
class ShardView:
    """A shard. Each resource that ``capacity`` names has a ``current`` value and a band, in the same unit."""

    name: str
    capacity: Mapping[str, float]
    current: Mapping[str, float]
    bands: Mapping[str, Band]

    def __post_init__(self) -> None:
        if not self.capacity:
            raise InvalidInput("capacity", f"shard {self.name} has no capacity for anything")
        for metric, capacity in self.capacity.items():
            if not (math.isfinite(capacity) and capacity > 0):
                raise InvalidInput("capacity", f"shard {self.name}, {metric}: {capacity} is not positive")
            if metric not in self.current:
                raise InvalidInput("current", f"shard {self.name} has no current {metric}")
            if metric not in self.bands:
                raise InvalidInput("bands", f"shard {self.name} has no forecast of {metric}")
        _check_loads("current", f"shard {self.name}", self.current)


@dataclass(frozen=True, eq=False)
class FleetView:
    """The whole fleet at ``now`` (fleet clock, UTC).

    ``busy_shards`` take part in a migration, ``moving`` buckets are in one; ``draining`` shards are to be emptied;
    ``rates`` were measured by earlier migrations. All bands cover the same steps.
    """

    now: datetime
    shards: tuple[ShardView, ...]
    buckets: tuple[BucketView, ...]
    busy_shards: frozenset[str] = frozenset()
    moving: frozenset[str] = frozenset()
    draining: frozenset[str] = frozenset()
    rates: LearntRates = field(default_factory=LearntRates)

    def __post_init__(self) -> None:
        if self.now.tzinfo is None:
            raise InvalidInput("now", f"{self.now} has no time zone")
        if not self.shards:
            raise InvalidInput("shards", "the fleet has no shard")
        names = {shard.name for shard in self.shards}
        if len(names) != len(self.shards):
            raise InvalidInput("shards", "two shards have the same name")
        if len({bucket.name for bucket in self.buckets}) != len(self.buckets):
            raise InvalidInput("buckets", "two buckets have the same name")
        for bucket in self.buckets:
            if bucket.shard not in names:
                raise InvalidInput(
                    "buckets", f"{bucket.name} is on {bucket.shard}, which is not in the fleet"
                )
        bands = [band for shard in self.shards for band in shard.bands.values()]
        bands += [bucket.band for bucket in self.buckets]
        if any(not band.ts.equals(bands[0].ts) for band in bands):
            raise InvalidInput("bands", "the forecasts do not cover the same steps")
        if pd.Timestamp(self.now) >= bands[0].ts[-1] + STEP:
            raise InvalidInput("bands", f"the forecasts end before {self.now}", remedy="Run a new forecast.")

    def ahead(self) -> FleetView:
        """This view with the steps of its bands that are over left out."""

        def rest(band: Band) -> Band:
            left = band.ts + STEP > pd.Timestamp(self.now)
            return Band(band.ts[left], band.quantiles[left])

        return replace(
            self,
            shards=tuple(
                replace(one, bands={metric: rest(band) for metric, band in one.bands.items()})
                for one in self.shards
            ),
            buckets=tuple(replace(one, band=rest(one.band)) for one in self.buckets),
        )

    def on(self, shard: str) -> tuple[BucketView, ...]:
        """The shard's buckets, by name."""
        return tuple(sorted((b for b in self.buckets if b.shard == shard), key=lambda b: b.name))


def _check_loads(field: str, whose: str, loads: Mapping[str, float]) -> None:
    for metric, load in loads.items():
        if not (math.isfinite(load) and load >= 0):
            raise InvalidInput(field, f"{whose}, {metric}: {load} is not a load")
