"""Attribution: known costs are found again, whatever the buckets have in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.forecast.attribution import attribute, plausible

CPU = (50e-6, 0.4e-6, 15e-6)  # cores for one of each, about what PostgreSQL takes

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Known:
    """A shard's load and activity (buckets, kinds, windows), and each bucket's true share of the load."""

    load: Floats
    activity: Floats
    shares: Floats


def shard(
    seed: int,
    *,
    windows: int = 336,
    buckets: int = 8,
    together: bool = False,
    noise: float = 0.03,
    own: float = 0.15,
    freq: str = "1h",
    kinds: int = 3,
) -> Known:
    """Daily curves (all at the same hours if ``together``), mixes and costs that differ from bucket to bucket."""
    rng = np.random.default_rng(seed)
    hours = np.arange(windows) * (pd.Timedelta(freq) / pd.Timedelta("1h"))
    phase = np.zeros(buckets) if together else rng.uniform(0, 6, buckets)
    curve = 1 + 0.6 * np.sin(2 * np.pi * (hours[:, None] + phase) / 24)
    queries = rng.lognormal(3, 1, buckets) * curve * np.exp(rng.normal(0, 0.15, (windows, buckets)))
    reads = queries * rng.lognormal(3, 1, buckets) * np.exp(rng.normal(0, 0.1, queries.shape))
    writes = queries * rng.choice([0, 0.2, 1], buckets) * np.exp(rng.normal(0, 0.1, queries.shape))
    acts = np.stack([queries, reads, writes], axis=2)
    parts = (acts @ np.array(CPU)) * np.exp(rng.normal(0, 0.3, buckets))
    load = (parts.sum(axis=1) + own * parts.sum(axis=1).mean()) * rng.normal(1, noise, windows)
    shares = parts.sum(axis=0) / load.sum()
    return Known(load, np.moveaxis(acts[:, :, :kinds], 0, 2), shares)


def misplaced(known: Known, load: Floats | None = None) -> float:
    """Load given to the wrong bucket, as a share of what the buckets make."""
    found = attribute(known.load if load is None else load, known.activity)
    shares = np.einsum("bk,bkt->b", found.cost, known.activity) / known.load.sum()
    return float(np.abs(shares - known.shares).sum() / known.shares.sum())


@pytest.mark.parametrize(
    ("shape", "allowed"),
    [
        ({}, 0.08),
        ({"freq": "5min", "windows": 2016}, 0.05),
        ({"kinds": 1}, 0.12),  # an imported history that only knows queries
        ({"own": 2.0}, 0.15),
        ({"together": True}, 0.16),  # all busy at the same hours
        ({"noise": 0.15}, 0.2),
        ({"windows": 24, "buckets": 100, "together": True}, 0.5),  # one day, a hundred buckets
    ],
)
def test_parts_are_found_within(shape: dict[str, float], allowed: float) -> None:
    errors = [misplaced(shard(seed, **shape)) for seed in range(6)]  # type: ignore[arg-type]
    assert np.mean(errors) < allowed, errors


def test_the_fit_is_judged_by_what_it_was_not_shown() -> None:
    good = shard(1)
    fit = attribute(good.load, good.activity).fit
    assert (fit.method, fit.windows, fit.note) == ("buckets", 336, "")
    assert fit.r_squared is not None
    assert 0.97 < fit.r_squared < 1
    assert fit.explained == pytest.approx(good.shares.sum(), abs=0.02)
    # A load that has nothing to do with the buckets: in sample, a hundred of them would explain it well.
    many = shard(2, windows=120, buckets=100)
    other = np.random.default_rng(3).gamma(2, 1, 120)
    fit = attribute(other, many.activity).fit
    assert fit.r_squared is not None
    assert fit.r_squared < 0.2
    assert "rough" in fit.note


@pytest.mark.parametrize("wrong", [1e12, np.inf, np.nan, -5.0])
def test_one_wrong_value_changes_next_to_nothing(wrong: float) -> None:
    known = shard(4)
    spoilt = known.load.copy()
    spoilt[100] = wrong
    assert misplaced(known, spoilt) < misplaced(known) + 0.01
    acts = known.activity.copy()
    acts[3, 1, 50] = wrong
    found = attribute(known.load, acts)
    assert found.fit.windows == 335
    assert found.cost == pytest.approx(attribute(known.load, known.activity).cost, rel=0.05, abs=1e-6)


def test_bursts_that_are_no_buckets_do_not_become_theirs() -> None:
    known = shard(5)
    bursts = known.load.copy()
    bursts[::40] *= 20
    assert misplaced(known, bursts) < 0.08


def test_equally_busy_buckets_share_the_cost() -> None:
    same = np.random.default_rng(1).gamma(2.0, 20.0, 200)
    found = attribute(6 * same, np.stack([same, same])[:, None])
    assert found.cost == pytest.approx(3.0, rel=0.01)


def test_idle_buckets_cost_nothing_and_the_shard_keeps_its_load() -> None:
    for level in (0.0, 2.0):
        found = attribute(np.full(200, level), np.zeros((1, 3, 200)))
        assert (found.cost == 0).all()
        assert found.fit.explained == 0.0


def test_a_load_that_does_not_follow_is_the_shards_own() -> None:
    known = shard(6)
    found = attribute(np.full(len(known.load), 2.0), known.activity)
    assert found.fit.explained == pytest.approx(0.0, abs=1e-6)
    assert found.fit.r_squared is None


@pytest.mark.parametrize("windows", [1, 11, 200])
def test_what_cannot_be_told_is_divided_by_activity(windows: int) -> None:
    steady = np.zeros((2, 2, windows))
    steady[:, 0] = [[10.0], [30.0]]
    found = attribute(np.full(windows, 2.0), steady)
    assert found.fit.method == "assumed"
    assert "divided by activity" in found.fit.note
    assert found.cost[1] @ steady[1] == pytest.approx(1.5)


def test_without_a_common_window_or_a_bucket_nothing_is_told() -> None:
    known = shard(7)
    nothing = attribute(np.full(len(known.load), np.nan), known.activity)
    assert np.isnan(nothing.cost).all()
    assert nothing.fit.windows == 0
    empty = attribute(known.load, np.empty((0, 3, 0)))
    assert (len(empty.cost), empty.fit.explained, empty.fit.note) == (0, 0.0, "")


@given(
    st.integers(1, 40),
    st.integers(1, 5),
    st.sampled_from([0.0, 1e-9, 1.0, 1e9]),
    st.integers(0, 99),
)
def test_costs_are_numbers_and_never_negative(windows: int, buckets: int, scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    acts = rng.gamma(0.5, 10, (buckets, 2, windows)) * rng.integers(0, 2, (buckets, 2, 1))
    found = attribute(scale * rng.gamma(2, 1, windows), acts)
    assert np.isfinite(found.cost).all()
    assert (found.cost >= 0).all()
    assert np.isfinite(found.fit.explained)
    assert found.fit.r_squared is None or found.fit.r_squared <= 1


def test_a_batch_once_a_day_is_load_and_no_fault() -> None:
    """Its hour is a million times the others, and it is what the shard must bear."""
    hours = pd.date_range("2026-01-05", periods=240, freq="h", tz="UTC")
    io = np.where(hours.hour == 3, 1e8, 1e2).astype(float)
    assert plausible(io).all()
    io[100] = 1e12
    assert np.flatnonzero(~plausible(io)).tolist() == [100]
