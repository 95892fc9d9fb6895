"""A small fleet whose load is known by heart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from foreshard.simulate.fleet import Fleet
from foreshard.simulate.trace import Trace

HOURS = 6 * 24
STARTS_AT = datetime(2024, 1, 1, tzinfo=UTC)


def trace_of(load: np.ndarray, *, gigabytes: float = 20.0) -> Trace:
    """Hourly, one resource; ``load`` (B, T)."""
    buckets = len(load)
    return Trace(
        tuple(f"b{number:02}" for number in range(buckets)),
        ("cpu_cores",),
        load[:, None].astype(float),
        np.full(load.shape, 10.0),
        np.full(buckets, int(gigabytes * 1e9)),
        STARTS_AT,
        timedelta(hours=1),
    )


def daily(buckets: int = 8, hours: int = HOURS, height: float = 1.0) -> np.ndarray:
    """Each bucket between 0.5 and 1.5, highest at noon, a little different from the next."""
    hour = np.arange(hours)
    noise = np.random.default_rng(1).normal(0, 0.02, (buckets, hours))
    wave = 1 + 0.5 * np.sin((hour - 6) / 24 * 2 * np.pi)
    return np.maximum(height * (wave + noise), 0.0)


def fleet_of(on: list[int], capacity: float, shards: int = 3) -> Fleet:
    """``on``: each bucket's shard at first."""
    names = tuple(f"s{number}" for number in range(shards))
    return Fleet("small", names, np.full((shards, 1), capacity), np.array(on, np.intp))


@pytest.fixture
def trace() -> Trace:
    return trace_of(daily())


@pytest.fixture
def crowded() -> Fleet:
    """Six buckets of eight on one shard, which saturates every noon; two others have room."""
    return fleet_of([0, 0, 0, 0, 0, 0, 1, 2], capacity=7.5)


@pytest.fixture
def roomy() -> Fleet:
    return fleet_of([0, 0, 0, 1, 1, 1, 2, 2], capacity=20.0)
