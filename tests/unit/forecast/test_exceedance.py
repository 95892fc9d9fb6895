from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy.stats import norm

from foreshard.errors import InvalidInput
from foreshard.forecast.band import QUANTILES, Floats
from foreshard.forecast.exceedance import PastWindows, peaks
from foreshard.forecast.panel import Panel
from foreshard.forecast.peak import PEAK_LEVELS
from foreshard.forecast.series import SeriesKey

START = datetime(2013, 10, 14, tzinfo=UTC)
HORIZON = 24
PHI = 0.9


def panel_of(values: np.ndarray, minutes: int = 60) -> Panel:
    keys = tuple(SeriesKey(None, f"b{row:04}", "queries_per_s") for row in range(len(values)))
    return Panel(keys, values.astype(np.float32), START, timedelta(minutes=minutes))


def autoregressive(series: int, steps: int, seed: int = 1) -> Floats:
    """Root of load: 10 and an AR(1) process about it with variance 1."""
    rng = np.random.default_rng(seed)
    level = np.empty((series, steps))
    level[:, 0] = rng.normal(size=series)
    for step in range(1, steps):
        level[:, step] = PHI * level[:, step - 1] + np.sqrt(1 - PHI**2) * rng.normal(size=series)
    return 10 + level


def perfect(root: Floats, origin: int) -> Floats:
    """The true quantiles of each step, given all before ``origin``; no model can do better."""
    ahead = np.arange(1, HORIZON + 1)
    middle = 10 + PHI**ahead * (root[:, origin - 1 : origin] - 10)
    spread = np.sqrt(1 - PHI ** (2 * ahead))
    quantiles: Floats = (middle[..., None] + spread[:, None] * norm.ppf(QUANTILES)) ** 2
    return quantiles


def windows(root: Floats, origins: list[int]) -> PastWindows:
    truth = [root[:, origin : origin + HORIZON] ** 2 for origin in origins]
    return PastWindows(origins, np.stack([perfect(root, origin) for origin in origins]), np.stack(truth))


def unreliable(said: Floats, came: np.ndarray) -> list[str]:
    """Classes of said probability in which it came more or less often than binomial noise and 3 points explain."""
    found = []
    for low in np.arange(0, 1, 0.1):
        within = (said >= low) & (said < low + 0.1)
        number = int(within.sum())
        if number >= 30:
            expected, rate = float(said[within].mean()), float(came[within].mean())
            if abs(rate - expected) > 3 * np.sqrt(expected * (1 - expected) / number) + 0.03:
                found.append(f"said {expected:.2f}, came {rate:.2f} of {number}")
    return found


def pointwise(quantiles: Floats, capacity: float) -> Floats:
    """What one reads off the band: how likely the likeliest step exceeds ``capacity``."""
    highest = quantiles.max(axis=1)
    return np.array([1 - np.interp(capacity, row, QUANTILES, left=0.025, right=0.975) for row in highest])


@pytest.fixture(scope="module")
def said_and_came() -> tuple[Floats, Floats, np.ndarray]:
    """Of 150 independent series, at 5 origins, for 4 capacities: by the peak, read off the band, and what came."""
    root = autoregressive(150, 40 * HORIZON)
    load = root**2
    said, read, came = [], [], []
    for now in range(34 * HORIZON, 39 * HORIZON, HORIZON):
        past = windows(root, list(range(now - 12 * HORIZON, now - HORIZON + 1, HORIZON // 2)))
        predicted = perfect(root, now)
        found = peaks(panel_of(load[:, :now]), predicted, past)
        largest = load[:, now : now + HORIZON].max(axis=1)
        for capacity in (110.0, 120.0, 132.0, 145.0):
            said.append([peak.above(capacity) for peak in found])
            read.append(pointwise(predicted, capacity))
            came.append(largest > capacity)
    return np.ravel(said), np.ravel(read), np.ravel(came)


def test_what_is_said_to_come_so_often_comes_so_often(
    said_and_came: tuple[Floats, Floats, np.ndarray],
) -> None:
    said, _, came = said_and_came
    assert unreliable(said, came) == []


def test_quantiles_of_single_steps_do_not_say_it(said_and_came: tuple[Floats, Floats, np.ndarray]) -> None:
    """The control: the same check finds the pointwise reading wrong though its quantiles are true."""
    said, read, came = said_and_came
    assert len(unreliable(read, came)) >= 4
    assert np.mean((said - came) ** 2) < 0.85 * np.mean((read - came) ** 2)


def test_what_buckets_do_is_not_held_against_shards() -> None:
    """Wild buckets beside calm shards: the shards' peaks are those of the shards by themselves."""
    rng = np.random.default_rng(3)
    calm = autoregressive(6, 30 * HORIZON)
    wild = np.clip(autoregressive(40, 30 * HORIZON, seed=2) + rng.standard_t(2, (40, 30 * HORIZON)), 0, None)
    both, now = np.concatenate([wild, calm]), 29 * HORIZON
    panel = panel_of(both[:, :now] ** 2)
    keys = tuple(
        key if row < 40 else SeriesKey(f"shard-{row}", None, "queries_per_s")
        for row, key in enumerate(panel.keys)
    )
    origins = list(range(now - 10 * HORIZON, now - HORIZON + 1, HORIZON))
    together = peaks(replace(panel, keys=keys), perfect(both, now), windows(both, origins))[40:]
    alone = peaks(
        replace(panel.rows(np.arange(40, 46)), keys=keys[40:]), perfect(calm, now), windows(calm, origins)
    )
    for one, other in zip(together, alone, strict=True):
        assert one.values == pytest.approx(other.values)


def test_without_a_past_the_steps_miss_together() -> None:
    root = autoregressive(3, 20 * HORIZON)
    predicted = perfect(root, 20 * HORIZON)
    for past in (None, PastWindows([], np.empty((0, 3, HORIZON, 7)), np.empty((0, 3, HORIZON)))):
        found = peaks(panel_of(root**2), predicted, past)
        for peak, band in zip(found, predicted, strict=True):
            at = [PEAK_LEVELS.index(level) for level in (0.05, 0.1, 0.5, 0.9, 0.95)]
            assert peak.values[at] == pytest.approx(band.max(axis=0)[[0, 1, 3, 5, 6]])


def test_a_series_without_history_has_its_band_and_changes_no_other() -> None:
    root = autoregressive(4, 30 * HORIZON)
    now = 29 * HORIZON
    past = windows(root, [now - 24 * days for days in range(10, 0, -1)])
    predicted = perfect(root, now)
    alone = peaks(panel_of(root[:3, :now] ** 2), predicted[:3], windows(root[:3], list(past.origins)))
    load = root[:, :now] ** 2
    load[3] = np.nan
    past.truth[:, 3] = np.nan
    past.predicted[:, 3] = np.nan
    found = peaks(panel_of(load), predicted, past)
    assert found[3].values[PEAK_LEVELS.index(0.95)] == pytest.approx(predicted[3, :, 6].max())
    for one, other in zip(alone, found, strict=False):
        assert one.values == pytest.approx(other.values)


def test_a_window_that_is_not_over_teaches_nothing() -> None:
    root = autoregressive(5, 30 * HORIZON)
    now = 29 * HORIZON
    origins = [now - 24 * days for days in range(10, 0, -1)]
    predicted, panel = perfect(root, now), panel_of(root[:, :now] ** 2)
    before = peaks(panel, predicted, windows(root, origins))
    more = windows(root, [*origins, now - 6])
    more.truth[-1, :, 6:] = np.nan
    for one, other in zip(before, peaks(panel, predicted, more), strict=True):
        assert one.values == pytest.approx(other.values)


def test_ten_times_the_load_is_ten_times_the_peak() -> None:
    root = autoregressive(5, 30 * HORIZON)
    now = 29 * HORIZON
    past = windows(root, [now - 24 * days for days in range(10, 0, -1)])
    tenfold = PastWindows(past.origins, past.predicted * 10, past.truth * 10)
    small = peaks(panel_of(root[:, :now] ** 2), perfect(root, now), past)
    large = peaks(panel_of(root[:, :now] ** 2 * 10), perfect(root, now) * 10, tenfold)
    for one, other in zip(small, large, strict=True):
        assert one.values * 10 == pytest.approx(other.values, rel=1e-5)


def test_a_declared_event_moves_the_peak_as_it_moves_the_forecast() -> None:
    root = autoregressive(2, 20 * HORIZON)
    predicted = perfect(root, 20 * HORIZON)
    factors = np.ones((2, HORIZON), np.float32)
    factors[0] = 1.5
    ordinary = peaks(panel_of(root**2), predicted)
    moved = peaks(panel_of(root**2), predicted, factors=factors)
    assert moved[0].values == pytest.approx(ordinary[0].values * 1.5)
    assert moved[1].values == pytest.approx(ordinary[1].values)


def test_of_nothing_comes_nothing() -> None:
    now = 20 * HORIZON
    origins = [now - 24 * days for days in range(5, 0, -1)]
    past = PastWindows(origins, np.zeros((5, 1, HORIZON, 7)), np.zeros((5, 1, HORIZON)))
    (peak,) = peaks(panel_of(np.zeros((1, now))), np.zeros((1, HORIZON, 7)), past)
    assert (peak.values == 0).all()
    assert peak.above(1.0) == 0.0


@pytest.mark.parametrize("before", [0.0, 1.0])
def test_load_that_has_just_become_another_is_as_high_as_its_forecast(before: float) -> None:
    """No day before tells of it: only the forecast does, and what was learnt must not hold it down."""
    root = autoregressive(6, 20 * HORIZON)
    now = 19 * HORIZON
    load = root[:, :now] ** 2
    load[0, :-6] *= 0.05 * before
    past = windows(root, [now - 24 * days for days in range(6, 0, -1)])
    past.predicted[:, 0] *= 0.05 * before
    past.truth[:, 0] *= 0.05 * before
    peak = peaks(panel_of(load), perfect(root, now), past)[0]
    assert 95 < peak.values[PEAK_LEVELS.index(0.5)] < 150
    assert peak.above(80.0) > 0.8


@pytest.mark.parametrize(("minutes", "horizon"), [(5, 3), (15, 96), (60, 60)])
def test_any_step_and_horizon(minutes: int, horizon: int) -> None:
    day = 24 * 60 // minutes
    rng = np.random.default_rng(1)
    load = rng.lognormal(3, 0.2, (4, 20 * day)) * (2 + np.sin(np.arange(20 * day) / day * 2 * np.pi))
    now = 17 * day
    predicted = np.sort(rng.lognormal(3.5, 0.2, (9, 4, horizon, 7)), axis=-1)
    origins = [now - horizon - 8 * back for back in range(8)]
    truth = np.stack([load[:, origin : origin + horizon] for origin in origins])
    found = peaks(panel_of(load[:, :now], minutes), predicted[8], PastWindows(origins, predicted[:8], truth))
    largest = load[:, now : now + horizon].max(axis=1)
    assert all(0.3 * came < peak.values[8] < 3 * came for came, peak in zip(largest, found, strict=True))


def test_a_forecast_that_is_not_finite_is_refused() -> None:
    with pytest.raises(InvalidInput, match="not finite"):
        peaks(panel_of(np.ones((1, 48))), np.full((1, 4, 7), np.nan))
