"""Means over windows: what must hold of them whatever was sampled."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.load.rollup import Rows, Windows, by_bucket, overlay, roll_up

MINUTE = 60_000_000
WINDOWS = Windows(5 * MINUTE, MINUTE)
VALUES = st.one_of(st.just(float("nan")), st.floats(0, 1000, width=32))


@st.composite
def shards(draw: st.DrawFn) -> dict[int, Rows]:
    """Two shards that both know buckets in columns 1 and 2, sampled at some of twelve minutes, some twice."""
    found = {}
    for shard in (1, 2):
        ts = sorted(draw(st.sets(st.integers(0, 23), max_size=20)))
        values = [draw(st.lists(VALUES, min_size=3, max_size=3)) for _ in ts]
        found[shard] = Rows(
            np.array(ts, np.int64) * (MINUTE // 2),
            np.array(values, np.float32).reshape(len(ts), 3),
            np.ones(len(ts), np.int64),
        )
    return found


SEVERAL = {shard: (np.array([1, 2]), np.array([0, 1])) for shard in (1, 2)}
BUCKETS = {shard: np.array([0, 1]) for shard in (1, 2)}


@given(shards())
@settings(deadline=None)
def test_the_shards_parts_add_up_to_the_buckets_mean(rows: dict[int, Rows]) -> None:
    """Over both shards: the mean, over the minutes in which it was sampled at all, of what both served."""
    rolled = roll_up(rows, WINDOWS, SEVERAL, additive=True)
    times = np.unique(np.concatenate([one.ts for one in rolled.values()] or [np.empty(0, np.int64)]))
    total = by_bucket(rolled, BUCKETS, (2, times), additive=True)
    for bucket in (0, 1):
        for at, start in enumerate(times):
            minutes = []
            for minute in range(int(start), int(start) + WINDOWS.step, MINUTE):
                parts = []
                for one in rows.values():
                    here = one.values[(one.ts >= minute) & (one.ts < minute + MINUTE), bucket + 1]
                    here = here[~np.isnan(here)]
                    parts += [float(here.mean(dtype=float))] if len(here) else []
                minutes += [sum(parts)] if parts else []
            if minutes:
                np.testing.assert_allclose(total[bucket, at], np.mean(minutes), rtol=1e-4, atol=1e-4)
            else:
                assert np.isnan(total[bucket, at])


@given(shards())
@settings(deadline=None)
def test_nothing_is_invented(rows: dict[int, Rows]) -> None:
    """A mean lies between the values that it is of, a state's too; live samples are counted once."""
    rolled = roll_up(rows, WINDOWS, SEVERAL, additive=False)
    assert rolled.keys() == {shard for shard, one in rows.items() if len(one.ts)}
    for shard, one in rolled.items():
        assert one.live.sum() == rows[shard].live.sum()
        for start, means in zip(one.ts, one.values, strict=True):
            inside = rows[shard].values[WINDOWS.starts(rows[shard].ts) == start]
            for mean, values in zip(means, inside.T, strict=True):
                known = values[~np.isnan(values)]
                assert np.isnan(mean) == (len(known) == 0)
                if len(known):
                    assert known.min() * (1 - 1e-5) <= mean <= known.max() * (1 + 1e-5)


@given(shards())
def test_what_lies_above_wins_and_fills_no_gap_with_nothing(rows: dict[int, Rows]) -> None:
    both = overlay(rows[1], rows[2])
    assert list(both.ts) == sorted({*rows[1].ts.tolist(), *rows[2].ts.tolist()})
    for ts, values in zip(both.ts, both.values, strict=True):
        below, above = (
            one.values[one.ts == ts][0] if ts in one.ts else np.full(3, np.nan) for one in (rows[1], rows[2])
        )
        np.testing.assert_array_equal(values, np.where(np.isnan(above), below, above).astype(np.float32))
