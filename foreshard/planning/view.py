"""What the planner sees: the fleet's present and its forecasts, as arrays.

Axes, in this order everywhere in `planning`: shards or buckets, resources, steps; of forecasts, quantiles last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from foreshard.errors import InvalidInput
from foreshard.forecast.band import QUANTILES, quantile_column
from foreshard.forecast.peak import PEAK_LEVELS
from foreshard.planning.latency import LatencyCurve
from foreshard.planning.learnt_rates import LearntRates
from foreshard.planning.windows import Blackout

Floats = npt.NDArray[np.floating]
Indexes = npt.NDArray[np.intp]
Sizes = npt.NDArray[np.int64]

NEVER = np.inf
UTC = ZoneInfo("UTC")


@dataclass(frozen=True, eq=False)
class ShardsView:
    """All shards, by name. S shards, R resources, T steps; loads in the metrics' units.

    ``bands`` (S, R, T, 7): quantiles of each step. ``peaks`` (S, R, 17): quantiles of the largest load of the whole
    window, at ``PEAK_LEVELS``. ``capacity`` and ``current`` (S, R).
    """

    names: tuple[str, ...]
    capacity: Floats
    current: Floats
    bands: Floats
    peaks: Floats

    def at(self, level: float) -> Floats:
        """A quantile of the band, shape (S, R, T)."""
        values: Floats = self.bands[..., quantile_column(level)]
        return values


@dataclass(frozen=True, eq=False)
class BucketsView:
    """All buckets, by name. B buckets.

    ``shard`` (B,): row of the shard that each lies on. ``load`` (B, R, T): median, in the metrics' units; what the
    buckets of a shard do not explain is the shard's own and stays. ``queries`` (B, T): median queries/s.
    ``rested_s`` (B,): seconds since the last move, ``NEVER`` without one; ``came_from`` (B,): the row of the shard that
    it left then, -1 without one. ``spread`` (B,): how uncertain each one's load is, as a share of it; what a shard's
    forecast is above its median is its buckets' by this. None: all alike.
    """

    names: tuple[str, ...]
    shard: Indexes
    size_bytes: Sizes
    load: Floats
    queries: Floats
    rested_s: Floats
    came_from: Indexes
    spread: Floats | None = None


@dataclass(frozen=True, eq=False)
class FleetView:
    """The whole fleet at ``now`` (fleet clock, UTC); the forecasts' first step begins at ``starts_at``.

    ``moving``: bucket -> the shard that a migration under way takes it to: planned with as if it were there.
    ``busy``: shard -> when its migration is expected to end. ``draining`` shards are to be emptied. ``unknown``: shards
    and buckets without a forecast, by name, and why; they take no part. ``rates`` were measured by earlier migrations,
    ``latency`` is fitted to measured latencies. ``blackouts``: when nothing may be moved; ``timezone``: of the policy's
    maintenance windows.

    Raises:
        InvalidInput: shapes that do not fit, loads that are none, names twice, forecasts that are over.
    """

    now: datetime
    starts_at: datetime
    step: timedelta
    metrics: tuple[str, ...]
    shards: ShardsView
    buckets: BucketsView
    moving: Mapping[str, str] = field(default_factory=dict)
    busy: Mapping[str, datetime] = field(default_factory=dict)
    draining: frozenset[str] = frozenset()
    unknown: Mapping[str, str] = field(default_factory=dict)
    rates: LearntRates = field(default_factory=LearntRates)
    latency: LatencyCurve = field(default_factory=LatencyCurve)
    blackouts: tuple[Blackout, ...] = ()
    timezone: ZoneInfo = UTC

    def __post_init__(self) -> None:
        for name, moment in (("now", self.now), ("starts_at", self.starts_at)):
            if moment.tzinfo is None:
                raise InvalidInput(name, f"{moment} has no time zone")
        if not self.shards.names:
            raise InvalidInput("shards", "the fleet has no shard")
        if not self.metrics:
            raise InvalidInput("metrics", "no shard has a capacity for anything")
        _check_names("shards", self.shards.names)
        _check_names("buckets", self.buckets.names)
        _check_shapes(self)
        _check_loads(self)
        if self.now >= self.ends_at:
            raise InvalidInput("bands", f"the forecasts end before {self.now}", remedy="Run a new forecast.")

    @property
    def steps(self) -> int:
        """How many steps are forecast."""
        return int(self.shards.bands.shape[2])

    @property
    def ends_at(self) -> datetime:
        """The end of the last step."""
        return self.starts_at + self.steps * self.step

    @property
    def horizon_s(self) -> float:
        """Seconds from the first step's start to the last one's end."""
        return self.steps * self.step.total_seconds()

    def ahead(self) -> FleetView:
        """This view with the steps of its forecasts that are over left out."""
        over = max(0, (self.now - self.starts_at) // self.step)
        if not over:
            return self
        return replace(
            self,
            starts_at=self.starts_at + over * self.step,
            shards=replace(self.shards, bands=self.shards.bands[:, :, over:]),
            buckets=replace(
                self.buckets,
                load=self.buckets.load[:, :, over:],
                queries=self.buckets.queries[:, over:],
            ),
        )

    def at(self, step: int) -> datetime:
        """The start of a step."""
        return self.starts_at + step * self.step


def _check_names(field_name: str, names: tuple[str, ...]) -> None:
    if list(names) != sorted(set(names)):
        raise InvalidInput(field_name, "are not sorted by name, or two have the same one")


def _check_shapes(view: FleetView) -> None:
    shards, buckets = view.shards, view.buckets
    many, of, resources, steps = len(shards.names), len(buckets.names), len(view.metrics), view.steps
    expected = {
        "capacity": (shards.capacity, (many, resources)),
        "current": (shards.current, (many, resources)),
        "bands": (shards.bands, (many, resources, steps, len(QUANTILES))),
        "peaks": (shards.peaks, (many, resources, len(PEAK_LEVELS))),
        "shard": (buckets.shard, (of,)),
        "size_bytes": (buckets.size_bytes, (of,)),
        "load": (buckets.load, (of, resources, steps)),
        "queries": (buckets.queries, (of, steps)),
        "rested_s": (buckets.rested_s, (of,)),
        "came_from": (buckets.came_from, (of,)),
    }
    for name, (values, shape) in expected.items():
        if values.shape != shape:
            raise InvalidInput(name, f"shape {values.shape} is not {shape}")
    if steps == 0:
        raise InvalidInput("bands", "cover no step")
    for name, rows, least in (("shard", buckets.shard, 0), ("came_from", buckets.came_from, -1)):
        if of and not (rows.min() >= least and rows.max() < many):
            raise InvalidInput(name, "names a shard that is not in the fleet")


def _check_loads(view: FleetView) -> None:
    shards, buckets = view.shards, view.buckets
    if not (np.isfinite(shards.capacity).all() and (shards.capacity > 0).all()):
        raise InvalidInput("capacity", "holds a value that is not a positive number")
    loads = {
        "current": shards.current, "bands": shards.bands, "peaks": shards.peaks, "size_bytes": buckets.size_bytes,
        "load": buckets.load, "queries": buckets.queries,
    }  # fmt: skip
    for name, values in loads.items():
        # min and max once each: a NaN is in both
        if values.size and not (values.min() >= 0 and np.isfinite(values.max())):
            raise InvalidInput(name, "holds a value that is not a load: below zero, or no number")
    if buckets.spread is not None and not (
        buckets.spread.shape == (len(buckets.names),)
        and np.isfinite(buckets.spread).all()
        and (buckets.spread >= 0).all()
    ):
        raise InvalidInput("spread", "is not one number of 0 or more for each bucket")
    if buckets.rested_s.size and not buckets.rested_s.min() >= 0:
        raise InvalidInput("rested_s", "holds a value below zero, or no number")
