from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from foreshard.forecast.cleaning import clean
from foreshard.forecast.panel import Panel
from foreshard.forecast.series import SeriesKey

START = datetime(2013, 10, 15, tzinfo=UTC)
NAN = float("nan")


def panel_of(*rows: list[float] | np.ndarray, step: timedelta = timedelta(hours=1)) -> Panel:
    keys = tuple(SeriesKey(None, f"b{row:04}", "queries_per_s") for row in range(len(rows)))
    return Panel(keys, np.asarray(rows, np.float32), START, step)


def notes_of(row: list[float] | np.ndarray) -> tuple[str, ...]:
    panel = panel_of(row)
    return clean(panel).notes.get(panel.keys[0], ())


def ordinary(steps: int = 240, seed: int = 1) -> np.ndarray:
    hour = np.arange(steps) % 24
    noise = np.random.default_rng(seed).lognormal(0, 0.2, steps)
    return (300 + 200 * np.sin(hour / 24 * 2 * np.pi)) * noise


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({7: -3.0}, "left out 1 negative value"),
        ({7: -3.0, 8: -1e12}, "left out 2 negative values"),
        ({7: float("inf"), 9: float("-inf")}, "left out 2 infinite values"),
        ({100: 1e12}, "left out 1 value far above all others"),
        ({100: 1e12, 150: 2e12}, "left out 2 values far above all others"),
        ({100: 1e9, 150: 1e18}, "left out 2 values far above all others"),
    ],
)
def test_what_cannot_be_becomes_a_gap(change: dict[int, float], note: str) -> None:
    values = ordinary()
    values[list(change)] = list(change.values())
    panel = panel_of(ordinary(), values)
    cleaned = clean(panel)
    assert np.flatnonzero(np.isnan(cleaned.panel.values[1])).tolist() == list(change)
    assert list(cleaned.notes) == [panel.keys[1]]
    assert cleaned.notes[panel.keys[1]][0].startswith(note)


@pytest.mark.parametrize("times", [10, 100, 1000])
@pytest.mark.parametrize("hours", [1, 5])
def test_bursts_stay(times: float, hours: int) -> None:
    values = ordinary()
    values[100 : 100 + hours] *= times
    panel = panel_of(values)
    assert clean(panel).panel is panel


def test_absurd_neighbours_are_a_burst() -> None:
    values = ordinary()
    values[100:102] = 1e12
    assert notes_of(values) == ()


def test_few_values_are_not_judged() -> None:
    panel = panel_of([1.0, NAN, 1e12, 2.0])
    assert clean(panel).panel is panel
    assert clean(panel).notes[panel.keys[0]][0] == "only 3 known steps of 1 h"


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (np.full(48, NAN), "no history"),
        (np.zeros(48), "all zero"),
        (np.full(48, 5.5), "constant: always 5.5"),
        (np.r_[np.full(45, NAN), 5, 6, 7], "only 3 known steps of 1 h"),
        (
            np.r_[ordinary(48), np.full(30, NAN), ordinary(48)],
            "24% of its time is missing, the longest gap is 1 d 6 h",
        ),
        (np.tile([4.0, NAN, 6.0, 7.0], 20), "25% of its time is missing, the longest gap is 1 h"),
        (np.r_[ordinary(48), np.full(5, NAN)], "the last value is 5 h old"),
    ],
    ids=["no history", "all zero", "constant", "three points", "huge gap", "many gaps", "stale"],
)
def test_a_reader_is_told_of(values: np.ndarray, note: str) -> None:
    assert notes_of(values) == (note,)


def test_a_late_beginning_and_a_short_gap_are_nothing_to_tell() -> None:
    values = ordinary()
    values[:100] = NAN
    values[150:160] = NAN
    values[-3:] = NAN
    assert notes_of(values) == ()


ANY = arrays.arrays(
    np.float32,
    st.tuples(st.integers(0, 4), st.integers(0, 40)),
    elements=st.one_of(
        st.floats(width=32),
        st.sampled_from([0.0, 1.0, 5.0, 100.0, 1e7, 1e12, 1e20, NAN, -1.0]),
    ),
)


@settings(max_examples=200, deadline=None)
@given(ANY)
def test_never_raises_never_invents_and_cleans_once_for_all(values: np.ndarray) -> None:
    panel = (
        panel_of(*values)
        if values.size
        else Panel((), np.empty((0, 5), np.float32), START, timedelta(hours=1))
    )
    before = panel.values.copy()
    cleaned = clean(panel).panel
    np.testing.assert_array_equal(panel.values, before)
    kept = ~np.isnan(cleaned.values)
    np.testing.assert_array_equal(cleaned.values[kept], panel.values[kept])
    assert np.isfinite(cleaned.values[kept]).all()
    assert (cleaned.values[kept] >= 0).all()
    assert clean(cleaned).panel is cleaned


@settings(max_examples=50, deadline=None)
@given(arrays.arrays(np.float32, (3, 60), elements=st.floats(1, 1000, width=32)))
def test_a_clean_panel_comes_back_itself(values: np.ndarray) -> None:
    panel = panel_of(*values)
    assert clean(panel).panel is panel
