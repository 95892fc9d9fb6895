"""Made-up fleets to plan on: daily curves of every phase, log-normal loads and sizes, a tenth of the shards at risk."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from statistics import NormalDist

import numpy as np

from foreshard.forecast.band import QUANTILES
from foreshard.forecast.peak import PEAK_LEVELS
from foreshard.planning.view import NEVER, BucketsView, FleetView, Floats, ShardsView

METRICS = ("cpu_cores", "io_ops_per_s", "queries_per_s")
STEPS = 48
AT_RISK = 0.1
STARTS_AT = datetime(2026, 3, 2, tzinfo=UTC)

_PEAK_AT_RISK = (0.98, 1.15)  # of the 0.9 quantile, in the worst resource, over capacity
_PEAK_ELSE = (0.3, 0.6)
_PEAK_IF_FULL = (0.75, 0.84)  # just under the ceiling: hardly any shard has room
_SPREAD = (0.04, 0.12)  # of a shard's forecast, as a part of its median
_OWN = 0.05  # of a shard's load comes from no bucket


def made_up(shards: int, buckets: int, seed: int, full: bool = False) -> FleetView:
    """A fleet of so many shards with ``buckets / shards`` buckets each; the same for the same numbers.

    ``full``: nearly, all shards that are not at risk being close to the ceiling.
    """
    random = np.random.default_rng(seed)
    size, load = _buckets(buckets, random)
    shard = np.repeat(np.arange(shards), -(-buckets // shards))[:buckets]
    median = np.zeros((shards, len(METRICS), STEPS))
    np.add.at(median, shard, load)
    median *= 1 + _OWN
    spread = random.uniform(*_SPREAD, (shards, 1, 1))
    bands = median[..., None] * (1 + spread[..., None] * _normal(QUANTILES))
    highest = bands[..., QUANTILES.index(0.9)].max(axis=2)
    peaks = highest[..., None] * (1 + spread * (_normal(PEAK_LEVELS) - _normal((0.8,))))
    return FleetView(
        now=STARTS_AT,
        starts_at=STARTS_AT,
        step=timedelta(hours=1),
        metrics=METRICS,
        shards=ShardsView(
            tuple(f"shard-{row:05}" for row in range(shards)),
            highest / _utilisation(shards, random, _PEAK_IF_FULL if full else _PEAK_ELSE),
            median[..., 0],
            bands,
            peaks,
        ),
        buckets=BucketsView(
            tuple(f"b{row:06}" for row in range(buckets)),
            shard,
            size,
            load,
            load[:, METRICS.index("queries_per_s")],
            np.full(buckets, NEVER),
            np.full(buckets, -1),
        ),
    )


def _buckets(count: int, random: np.random.Generator) -> tuple[np.ndarray, Floats]:
    """Sizes in bytes, which go with load loosely, and loads (count, R, T)."""
    hour = np.arange(STEPS, dtype=np.float32)
    busy = random.lognormal(0, 1, (count, 1, 1)).astype(np.float32)
    mix = random.lognormal(0, 0.4, (count, len(METRICS), 1)).astype(np.float32)
    noon = random.normal(14, 3, (count, 1, 1)).astype(np.float32)
    swing = random.uniform(0.2, 0.9, (count, 1, 1)).astype(np.float32)
    load = 1 + swing * np.cos(2 * np.pi * (hour - noon) / 24)
    load = load * (busy * mix) * random.uniform(0.9, 1.1, (count, 1, STEPS)).astype(np.float32)
    size = 2e9 * np.sqrt(busy[:, 0, 0]) * random.lognormal(0, 0.8, count)
    return size.astype(np.int64), load


def _utilisation(shards: int, random: np.random.Generator, peak_else: tuple[float, float]) -> Floats:
    """Peaks over capacity, (S, R): every tenth shard is at risk in one resource and busy in the others."""
    peak = random.uniform(*peak_else, (shards, len(METRICS)))
    risky = random.permutation(shards)[: max(1, round(AT_RISK * shards))]
    peak[risky] = random.uniform(0.6, 0.9, (len(risky), len(METRICS)))
    peak[risky, random.integers(len(METRICS), size=len(risky))] = random.uniform(*_PEAK_AT_RISK, len(risky))
    return peak


def _normal(levels: tuple[float, ...]) -> Floats:
    return np.array([NormalDist().inv_cdf(level) for level in levels])
