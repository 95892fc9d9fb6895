"""What was known at an origin holds nothing of what came after it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from foreshard.errors import InvalidInput
from foreshard.forecast.history import History
from foreshard.forecast.panel import Panel
from foreshard.forecast.series import SeriesKey


def _history(values: list[list[float]]) -> History:
    keys = tuple(SeriesKey(None, f"b{row}", "queries_per_s") for row in range(len(values)))
    return History(
        Panel(keys, np.asarray(values, np.float32), datetime(2026, 3, 2, tzinfo=UTC), timedelta(hours=1))
    )


def test_seen_and_truth_meet_at_the_origin() -> None:
    history = _history([[1, 2, 3, 4, 5], [10, 20, 30, 40, 50]])
    assert history.seen(3).values.tolist() == [[1, 2, 3], [10, 20, 30]]
    assert history.truth(3, 2).tolist() == [[4, 5], [40, 50]]
    assert history.seen(3).ends_at == datetime(2026, 3, 2, 3, tzinfo=UTC)


def test_behind_the_end_nothing_is_known() -> None:
    history = _history([[1, 2, np.nan, 4]])
    np.testing.assert_array_equal(history.truth(2, 4), [[np.nan, 4, np.nan, np.nan]])
    np.testing.assert_array_equal(history.truth(9, 1), [[np.nan]])


def test_truths_of_several_origins() -> None:
    history = _history([[1, 2, 3, 4]])
    assert history.truths([1, 2], 2).tolist() == [[[2, 3]], [[3, 4]]]


@pytest.mark.parametrize("poison", [np.nan, 1e9])
def test_a_poisoned_future_is_not_seen(poison: float) -> None:
    clean = np.arange(12, dtype=float).reshape(2, 6)
    poisoned = clean.copy()
    poisoned[:, 4:] = poison
    before, after = _history(clean.tolist()).seen(4), _history(poisoned.tolist()).seen(4)
    np.testing.assert_array_equal(before.values, after.values)
    assert before.ends_at == after.ends_at


def test_origins_outside_are_refused() -> None:
    history = _history([[1, 2, 3]])
    with pytest.raises(InvalidInput, match="end"):
        history.seen(4)
    with pytest.raises(InvalidInput, match="origin"):
        history.truth(-1, 2)
