"""A series as it is shown: gaps are seen, values are where they belong."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.load.plot import series_png
from foreshard.load.shown_series import NOTHING, ShownSeries, unit_of, with_unit

T0 = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)


def shown(
    hours: list[float], step: timedelta | None = HOUR, until: float = 6, capacity: float | None = None
) -> ShownSeries:
    index = pd.DatetimeIndex([T0 + one * HOUR for one in hours], tz=UTC)
    values = pd.Series(np.arange(1.0, len(hours) + 1), index=index)
    return ShownSeries("s1", "cpu_cores", values, T0, T0 + until * HOUR, step, capacity)


def hours_of(series: ShownSeries) -> list[tuple[float, float]]:
    return [((begin - T0) / HOUR, (end - T0) / HOUR) for begin, end in series.gaps]


@pytest.mark.parametrize(
    ("hours", "gaps"),
    [
        ([0, 1, 2, 3, 4, 5], []),
        ([0, 1, 3, 4, 5], [(2, 3)]),
        ([2, 3], [(0, 2), (4, 6)]),
        ([], [(0, 6)]),
        ([3], [(0, 3), (4, 6)]),
    ],
)
def test_hours_that_are_missing_are_gaps(hours: list[float], gaps: list[tuple[float, float]]) -> None:
    assert hours_of(shown(hours)) == gaps


def test_samples_that_are_a_little_late_are_no_gap() -> None:
    assert hours_of(shown([1, 2.1, 3, 3.9, 5, 6], None)) == []
    assert hours_of(shown([1, 2, 4, 5, 6], None)) == [(2, 4)]
    assert hours_of(shown([1, 2, 3], None)) == [(3, 6)]
    assert hours_of(shown([1], None)) == []  # one alone does not tell how often there should be one


def test_a_sparkline_has_dots_where_there_is_a_gap() -> None:
    assert shown([0, 1, 4, 5]).sparkline(6) == f"▃▅{NOTHING}{NOTHING}▇█"
    assert shown([1, 2, 5, 6], None).sparkline(6) == f"▃▅{NOTHING}{NOTHING}▇█"
    assert shown([0, 1], until=2, capacity=20).sparkline(2) == "▁▁"
    assert shown([]).sparkline(3) == NOTHING * 3


@given(st.sets(st.integers(0, 23)), st.integers(1, 80), st.booleans())
def test_every_value_is_seen_and_none_is_invented(hours: set[int], width: int, raw: bool) -> None:
    series = shown(sorted(float(one) for one in hours), None if raw else HOUR, until=24)
    cells = series.cells(width)
    assert {one for one in cells if not math.isnan(one)} <= set(series.values)
    if hours:
        assert max(one for one in cells if not math.isnan(one)) == series.values.max()
    assert len(series.sparkline(width)) == width


@pytest.mark.parametrize(
    ("metric", "unit", "text"),
    [
        ("cpu_cores", "cores", "1.5 cores"),
        ("size_bytes", "bytes", "2 bytes"),
        ("io_bytes_per_s", "bytes/s", "2 bytes/s"),
        ("rows_read_per_s", "rows read/s", "1.5 rows read/s"),
        ("statement_p95_s", "s", "1.5 s"),
    ],
)
def test_a_name_says_the_unit(metric: str, unit: str, text: str) -> None:
    assert unit_of(metric) == unit
    assert with_unit(1.5, metric) == text


@pytest.mark.parametrize("hours", [[], [3.0], [0.0, 1.0, 4.0], [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]])
@pytest.mark.parametrize("step", [None, HOUR])
def test_a_picture_is_drawn_of_whatever_there_is(hours: list[float], step: timedelta | None) -> None:
    assert series_png(shown(hours, step, capacity=4.0), "Europe/Paris").startswith(b"\x89PNG")
