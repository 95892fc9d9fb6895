from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.quantities import amount, duration, many, rate, size


@pytest.mark.parametrize(
    ("bytes_", "said"),
    [
        (0, "0 bytes"),
        (950, "950 bytes"),
        (1_230, "1.23 kB"),
        (31e6, "31.0 MB"),
        (999_960, "1.00 MB"),
        (451e6, "451 MB"),
        (3e9, "3.00 GB"),
        (2.5e15, "2,500 TB"),
    ],
)
def test_sizes(bytes_: float, said: str) -> None:
    assert size(bytes_) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "-"),
        (0, "0.0 s"),
        (4.21, "4.2 s"),
        (9.97, "10 s"),
        (59.7, "1 min"),
        (200, "3 min 20 s"),
        (3599.8, "1 h"),
        (7500, "2 h 5 min"),
        (86_390, "1 d"),
        (273_600, "3 d 4 h"),
    ],
)
def test_durations(seconds: float | None, said: str) -> None:
    assert duration(seconds) == said


def test_other_units_are_counted() -> None:
    assert (amount(200, "s"), rate(1.0, "s")) == ("3 min 20 s", "-")
    assert (amount(1234, "tables"), rate(0.5, "tables"), rate(12.2e6, "bytes"), rate(None, "bytes")) == (
        "1,234 tables",
        "0.50 tables/s",
        "12.2 MB/s",
        "-",
    )


@given(st.floats(0, 1e18))
def test_no_number_is_longer_than_a_person_reads(value: float) -> None:
    assert len(size(value)) <= 13
    assert len(duration(value / 1e6)) <= 22


def test_many() -> None:
    assert [many(number, "row") for number in (0, 1, 1200)] == ["0 rows", "1 row", "1,200 rows"]
