"""The queueing curve, and its fit to latencies that were made of a known one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.planning.latency import LEAST_POINTS, LatencyCurve, fit, stretch


def test_stretch_by_hand() -> None:
    assert stretch(np.array([0.0, 0.5, 0.9, 0.99])) == pytest.approx([1.0, 2.0, 10.0, 100.0])
    assert stretch(np.array([1.0, 3.0])) == pytest.approx([100.0, 100.0])


def test_a_curve_by_hand() -> None:
    assert LatencyCurve().latency(np.array([0.0, 0.5])) == pytest.approx([1.0, 2.0])
    assert LatencyCurve(0.002, 0.5).latency(np.array([0.0, 1.0, 2.0])) == pytest.approx([0.002, 0.004, 0.2])


def measured(
    service_s: float, factor: float, many: int, seed: int, noise: float = 0.1
) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    random = np.random.default_rng(seed)
    rho = random.uniform(0.1, 0.8, many)
    return rho, LatencyCurve(service_s, factor).latency(rho) * random.lognormal(0, noise, many), random


@settings(max_examples=20, deadline=None)
@given(st.floats(1e-5, 10), st.floats(0.3, 1.15), st.integers(300, 2000), st.integers(0, 99))
def test_a_known_curve_is_found_in_spite_of_outliers(
    service_s: float, factor: float, many: int, seed: int
) -> None:
    rho, latency, random = measured(service_s, factor, many, seed)
    wrong = random.random(many) < 0.1
    latency[wrong] *= random.uniform(5, 100, wrong.sum())
    found = fit(rho, latency, random.uniform(1, 100, many))
    assert found is not None
    assert found.factor == pytest.approx(factor, abs=0.12)
    assert found.service_s == pytest.approx(service_s, rel=0.12)
    assert found.points == many


def test_shards_may_have_other_requests() -> None:
    """The busier a shard the slower its requests, whatever its load: only how each varies shows the curve."""
    parts = []
    for shard in range(9):
        rho = np.random.default_rng(shard).uniform(0.05, 0.25, 200) + shard / 12
        parts.append((rho, LatencyCurve(0.001 * (shard + 1), 0.5).latency(rho), np.full(200, shard)))
    rho, latency, of = (np.concatenate(one) for one in zip(*parts, strict=True))
    found, pooled = fit(rho, latency, of=of), fit(rho, latency)
    assert found is not None
    assert pooled is not None
    assert found.factor == pytest.approx(0.5, abs=0.02)
    assert found.service_s == pytest.approx(0.005, rel=0.1)
    assert pooled.factor > 0.8


def test_what_shows_no_curve_gives_none() -> None:
    rho, latency, _ = measured(0.001, 1.0, LEAST_POINTS, 1)
    assert fit(rho, latency) is not None
    assert fit(rho[1:], latency[1:]) is None
    assert fit(rho, np.full(len(rho), 0.001)) is None
    assert fit(rho, 0.001 / latency) is None
    assert fit(0.5 + 0.05 * rho, latency) is None
    assert fit(rho, np.where(np.arange(len(rho)) % 2, latency, np.nan)) is None
    assert fit(rho, np.zeros(len(rho))) is None
    assert fit(np.full(len(rho), np.inf), latency) is None
    assert fit(np.zeros(0), np.zeros(0)) is None
    assert fit(20 * rho, latency) is None
