"""Times as people type them."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.errors import InvalidInput
from foreshard.load.timespan import duration, moment, timespan

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
PARIS = ZoneInfo("Europe/Paris")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        ("24h", NOW - timedelta(days=1)),
        ("90 s", NOW - timedelta(seconds=90)),
        ("6w", NOW - timedelta(weeks=6)),
        ("2026-03-01", datetime(2026, 2, 28, 23, tzinfo=UTC)),
        ("2026-03-01T12:00Z", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01 12:00+01:00", datetime(2026, 3, 1, 11, tzinfo=UTC)),
    ],
)
def test_lengths_and_times_are_moments(text: str, expected: datetime) -> None:
    assert moment("--since", text, NOW, PARIS) == expected


@pytest.mark.parametrize(
    "text", ["", "soon", "0h", "-1h", "1y", "99999999w", "2026-02-30", "0001-01-01", "١h"]
)
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        timespan(text, "now", NOW, PARIS)
    assert refused.value.field == "--since"


@pytest.mark.parametrize(("since", "until"), [("1h", "2h"), ("1h", "1h"), ("2026-04-01", "now")])
def test_a_span_that_is_turned_round_or_empty_is_refused(since: str, until: str) -> None:
    with pytest.raises(InvalidInput, match="is not before"):
        timespan(since, until, NOW, PARIS)


@given(st.integers(1, 5000), st.sampled_from(["s", "m", "h", "d"]))
def test_a_length_is_what_it_says(number: int, unit: str) -> None:
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]
    assert duration("--step", f"{number}{unit}").total_seconds() == number * seconds


@given(st.text(max_size=12))
def test_whatever_is_typed_is_understood_or_refused(text: str) -> None:
    with suppress(InvalidInput):
        moment("--since", text, NOW, PARIS)
