from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.forecast.calendar import Event, EventKind
from foreshard.forecast.panel import Panel
from foreshard.forecast.regime import steady
from foreshard.forecast.series import SeriesKey

START = datetime(2013, 10, 15, tzinfo=UTC)
WEEKS = 6 * 7 * 24


def panel_of(*rows: np.ndarray, minutes: int = 60, events: tuple[Event, ...] = ()) -> Panel:
    keys = tuple(SeriesKey(None, f"b{row:04}", "queries_per_s") for row in range(len(rows)))
    step = timedelta(minutes=minutes)
    return Panel(keys, np.asarray(rows, np.float32), START, step, ZoneInfo("America/New_York"), events)


def load(
    steps: int = WEEKS,
    *,
    per_hour: int = 1,
    daily: float = 4.0,
    weekend: float = 0.4,
    noise: float = 0.1,
    seed: int = 1,
) -> np.ndarray:
    """Around 100; noise that lasts for some hours, as real load's."""
    hour = np.arange(steps) / per_hour
    rng = np.random.default_rng(seed)
    slow = np.zeros(steps)
    for at, shock in enumerate(rng.normal(0, 1, steps)):
        slow[at] = 0.8 * slow[at - 1] + 0.6 * shock
    level = 100 * daily ** (0.5 * np.sin(hour / 24 * 2 * np.pi))
    return level * np.where(hour // 24 % 7 >= 5, weekend, 1.0) * np.exp(noise * slow)


def only_note(panel: Panel) -> str:
    (notes,) = steady(panel).notes.values()
    (note,) = notes
    return note


@pytest.mark.parametrize("factor", [3.0, 1 / 3, 2.0, 0.5])
@pytest.mark.parametrize("hours", [13, 30, 150, 400])
def test_history_before_a_shift_is_scaled_to_the_present_level(factor: float, hours: int) -> None:
    quiet, shifted = load(), load(seed=2)
    truth = shifted * factor
    shifted[-hours:] *= factor
    panel = panel_of(quiet, shifted)
    steadied = steady(panel)
    assert list(steadied.notes) == [panel.keys[1]]
    (note,) = steadied.notes[panel.keys[1]]
    assert note.startswith("at ")
    assert note.endswith(": what is before was scaled to it")
    np.testing.assert_array_equal(steadied.panel.values[0], panel.values[0])
    np.testing.assert_array_equal(steadied.panel.values[1, -hours:], panel.values[1, -hours:])
    ratio = steadied.panel.values[1, : -hours - 12] / truth[: -hours - 12]
    assert ratio == pytest.approx(np.ones_like(ratio), rel=0.2)


def test_a_note_says_since_when_and_by_how_much() -> None:
    values = load(noise=0.02)
    values[-30:] *= 2
    assert only_note(panel_of(values)) == (
        "at 2 times its earlier level since 2013-11-24 13:00 EST: what is before was scaled to it"
    )


@pytest.mark.parametrize("minutes", [5, 15])
def test_a_shift_is_found_in_short_steps(minutes: int) -> None:
    per_hour = 60 // minutes
    values = load(15 * 24 * per_hour, per_hour=per_hour, noise=0.15)
    truth = values * 3
    values[-20 * per_hour - 1 :] *= 3
    found = steady(panel_of(values, minutes=minutes)).panel.values[0]
    assert found[: -22 * per_hour] == pytest.approx(truth[: -22 * per_hour], rel=0.2)


def test_two_shifts_are_both_found() -> None:
    values = load(noise=0.05)
    values[400:] *= 3
    values[-40:] /= 2
    steadied = steady(panel_of(values))
    assert len(steadied.notes[steadied.panel.keys[0]]) == 2
    assert steadied.panel.values[0, 300:] == pytest.approx(load(noise=0.05)[300:] * 1.5, rel=0.1)


@settings(max_examples=60, deadline=None)
@given(
    steps=st.integers(24, WEEKS),
    daily=st.floats(1, 40),
    weekend=st.floats(0.02, 5),
    noise=st.floats(0, 1),
    trend=st.floats(0.2, 5),
    burst=st.integers(0, 20),
    gap=st.integers(0, 60),
    seed=st.integers(0, 10**6),
)
def test_seasons_weekends_trends_noise_and_bursts_are_no_shifts(
    steps: int, daily: float, weekend: float, noise: float, trend: float, burst: int, gap: int, seed: int
) -> None:
    values = load(steps, daily=daily, weekend=weekend, noise=noise, seed=seed)
    values *= np.linspace(1, trend ** (steps / WEEKS), steps)
    at = seed % (steps - 20)
    values[at : at + burst // 4] *= 50
    values[at // 2 : at // 2 + gap] = np.nan
    panel = panel_of(values)
    notes = steady(panel).notes
    assert not any("times" in note for said in notes.values() for note in said)


@pytest.mark.parametrize("seed", range(3))
def test_an_outage_that_is_over_becomes_a_gap(seed: int) -> None:
    values = load(seed=seed)
    values[500:505] *= 0.01
    panel = panel_of(values)
    steadied = steady(panel)
    assert np.flatnonzero(np.isnan(steadied.panel.values[0])).tolist() == list(range(500, 505))
    assert steadied.notes[panel.keys[0]] == (
        "an outage from 2013-11-04 15:00 EST until 2013-11-04 20:00 EST was left out",
    )


def test_an_outage_under_way_stays_and_is_told() -> None:
    values = load(weekend=1.0)
    values[-5:] *= 0.01
    panel = panel_of(values)
    assert steady(panel).panel is panel
    assert only_note(panel) == "has been at 1% of its usual load for 5 h"


def test_what_is_quiet_each_sunday_is_a_habit() -> None:
    values = load()
    values[np.arange(WEEKS) // 24 % 7 == 6] = 0
    panel = panel_of(values)
    steadied = steady(panel)
    assert steadied.panel is panel
    assert steadied.notes == {}


def test_what_an_event_covers_is_no_outage() -> None:
    values = load()
    values[504:528] = 0
    day_off = Event(
        "day off",
        START + timedelta(hours=504),
        START + timedelta(hours=528),
        None,
        kind=EventKind.HOLIDAY,
    )
    panel = panel_of(values, events=(day_off,))
    assert steady(panel).panel is panel
    assert steady(panel_of(values)).notes != {}


def test_emptiness_before_a_series_lives_is_left_out() -> None:
    values = load()
    values[:-30] = 0
    panel = panel_of(values)
    assert np.isnan(steady(panel).panel.values[0, :-30]).all()
    assert only_note(panel) == "its load began 2013-11-24 13:00 EST: what is before was left out"


@pytest.mark.parametrize(
    "values",
    [np.zeros(WEEKS), np.full(WEEKS, 5.0), np.full(WEEKS, np.nan), np.r_[np.full(WEEKS, np.nan), 1, 2, 3]],
    ids=["zero", "constant", "no history", "three points"],
)
def test_a_poor_series_stays_as_it_is(values: np.ndarray) -> None:
    panel = panel_of(values)
    assert steady(panel).panel is panel
    assert steady(panel).notes == {}


def test_no_series_and_no_steps() -> None:
    for shape in ((0, 100), (2, 0), (2, 1)):
        keys = tuple(SeriesKey(None, f"b{row:04}", "q") for row in range(shape[0]))
        panel = Panel(keys, np.zeros(shape, np.float32), START, timedelta(hours=1))
        assert steady(panel).panel is panel
