"""Attribution: known costs are found again, whatever the buckets have in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.forecast.attribution import attribute, part, plausible

KINDS = ("queries_per_s", "rows_read_per_s", "rows_written_per_s")
CPU = (50e-6, 0.4e-6, 15e-6)  # cores for one of each, about what PostgreSQL takes

Floats = "np.ndarray[tuple[int, ...], np.dtype[np.float64]]"


@dataclass(frozen=True)
class Known:
    """A shard's load and activity, and each bucket's true share of the load."""

    load: pd.Series[float]
    activity: dict[str, pd.DataFrame]
    shares: pd.Series[float]


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
    index = pd.date_range("2026-01-05", periods=windows, freq=freq, tz="UTC")
    names = [f"b{n:04d}" for n in range(buckets)]
    return Known(
        pd.Series(load, index=index),
        {
            name: pd.DataFrame(acts[:, n, :kinds], index=index, columns=list(KINDS[:kinds]))
            for n, name in enumerate(names)
        },
        pd.Series(parts.sum(axis=0) / load.sum(), index=names),
    )


def found_shares(known: Known, load: pd.Series[float] | None = None) -> pd.Series[float]:
    found = attribute(known.load if load is None else load, known.activity)
    parts = {bucket: part(found.cost[bucket], acts).sum() for bucket, acts in known.activity.items()}
    return pd.Series(parts) / known.load.sum()


def misplaced(known: Known, load: pd.Series[float] | None = None) -> float:
    """Load given to the wrong bucket, as a share of what the buckets make."""
    return float((found_shares(known, load) - known.shares).abs().sum() / known.shares.sum())


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
    other = pd.Series(np.random.default_rng(3).gamma(2, 1, 120), index=many.load.index)
    fit = attribute(other, many.activity).fit
    assert fit.r_squared is not None
    assert fit.r_squared < 0.2
    assert "rough" in fit.note


@pytest.mark.parametrize("wrong", [1e12, np.inf, np.nan, -5.0])
def test_one_wrong_value_changes_next_to_nothing(wrong: float) -> None:
    known = shard(4)
    spoilt = known.load.copy()
    spoilt.iloc[100] = wrong
    assert misplaced(known, spoilt) < misplaced(known) + 0.01
    acts = {bucket: frame.copy() for bucket, frame in known.activity.items()}
    acts["b0003"].iloc[50, 1] = wrong
    assert attribute(known.load, acts).fit.windows == 335
    costs = pd.DataFrame(attribute(known.load, acts).cost)
    pd.testing.assert_frame_equal(
        costs, pd.DataFrame(attribute(known.load, known.activity).cost), rtol=0.05, atol=1e-6
    )


def test_bursts_that_are_no_buckets_do_not_become_theirs() -> None:
    known = shard(5)
    bursts = known.load.copy()
    bursts.iloc[::40] *= 20
    assert misplaced(known, bursts) < 0.08


def test_equally_busy_buckets_share_the_cost() -> None:
    index = pd.date_range("2026-01-05", periods=200, freq="h", tz="UTC")
    same = pd.Series(np.random.default_rng(1).gamma(2.0, 20.0, 200), index=index)
    frame = same.to_frame("queries_per_s")
    found = attribute(6 * same, {"b0000": frame, "b0001": frame})
    for bucket in ("b0000", "b0001"):
        assert found.cost[bucket]["queries_per_s"] == pytest.approx(3.0, rel=0.01)


def test_idle_buckets_cost_nothing_and_the_shard_keeps_its_load() -> None:
    index = pd.date_range("2026-01-05", periods=200, freq="h", tz="UTC")
    idle = pd.DataFrame(0.0, index=index, columns=list(KINDS))
    for level in (0.0, 2.0):
        found = attribute(pd.Series(level, index=index), {"b0000": idle})
        assert set(found.cost["b0000"].values()) == {0.0}
        assert found.fit.explained == 0.0


def test_a_load_that_does_not_follow_is_the_shards_own() -> None:
    known = shard(6)
    found = attribute(pd.Series(2.0, index=known.load.index), known.activity)
    assert found.fit.explained == pytest.approx(0.0, abs=1e-6)
    assert found.fit.r_squared is None


@pytest.mark.parametrize("windows", [1, 11, 200])
def test_what_cannot_be_told_is_divided_by_activity(windows: int) -> None:
    index = pd.date_range("2026-01-05", periods=windows, freq="h", tz="UTC")
    steady = {
        bucket: pd.DataFrame({"queries_per_s": level, "rows_read_per_s": 0.0}, index=index)
        for bucket, level in (("b0000", 10.0), ("b0001", 30.0))
    }
    found = attribute(pd.Series(2.0, index=index), steady)
    assert found.fit.method == "assumed"
    assert "divided by activity" in found.fit.note
    assert part(found.cost["b0001"], steady["b0001"]).mean() == pytest.approx(1.5)


def test_without_a_common_window_or_a_bucket_nothing_is_told() -> None:
    known = shard(7)
    nothing = attribute(pd.Series(np.nan, index=known.load.index), known.activity)
    assert (nothing.cost, nothing.fit.windows) == ({}, 0)
    empty = attribute(known.load, {})
    assert (empty.cost, empty.fit.explained, empty.fit.note) == ({}, 0.0, "")


@given(
    st.integers(1, 40),
    st.integers(1, 5),
    st.sampled_from([0.0, 1e-9, 1.0, 1e9]),
    st.integers(0, 99),
)
def test_costs_are_numbers_and_never_negative(windows: int, buckets: int, scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    index = pd.date_range("2026-01-05", periods=windows, freq="h", tz="UTC")
    acts = rng.gamma(0.5, 10, (windows, buckets, 2)) * rng.integers(0, 2, (1, buckets, 2))
    activity = {
        f"b{n}": pd.DataFrame(acts[:, n], index=index, columns=list(KINDS[:2])) for n in range(buckets)
    }
    found = attribute(pd.Series(scale * rng.gamma(2, 1, windows), index=index), activity)
    costs = np.array([list(cost.values()) for cost in found.cost.values()])
    assert np.isfinite(costs).all()
    assert (costs >= 0).all()
    assert np.isfinite(found.fit.explained)
    assert found.fit.r_squared is None or found.fit.r_squared <= 1


def test_a_batch_once_a_day_is_load_and_no_fault() -> None:
    """Its hour is a million times the others, and it is what the shard must bear."""
    hours = pd.date_range("2026-01-05", periods=240, freq="h", tz="UTC")
    io = np.where(hours.hour == 3, 1e8, 1e2).astype(float)
    assert plausible(io).all()
    io[100] = 1e12
    assert np.flatnonzero(~plausible(io)).tolist() == [100]
