"""Who owns a row whose copies differ."""

from __future__ import annotations

import pytest

from foreshard.errors import InvalidInput
from foreshard.migration.difference import Difference, Differences, owner_of, refuse_unknown
from foreshard.migration.repair import _why_left
from foreshard.postgres.guard import Side
from foreshard.postgres.last_word import Word


@pytest.mark.parametrize(
    ("slots", "bound", "owner"),
    [
        ([0], 0, Side.SOURCE),
        ([0], 1, Side.TARGET),
        ([511, 0], 512, Side.TARGET),
        ([512, 1023], 512, Side.SOURCE),
        ([511, 512], 512, None),
        ([1023], 1024, Side.TARGET),
        ([1024], 1024, Side.SOURCE),  # without a distribution key: nobody's, the source answers
    ],
)
def test_the_owner_follows_from_slots_and_bound(slots: list[int], bound: int, owner: Side | None) -> None:
    assert owner_of(slots, bound) is owner


def test_what_is_undecided_is_not_equal() -> None:
    assert Differences(1, 5, (), 0).equal
    assert not Differences(1, 5, (), 1).equal


def test_a_name_that_is_not_known_is_refused() -> None:
    refuse_unknown("--table", ["a"], ["a", "b"])
    with pytest.raises(InvalidInput, match="--table: 'c' is not") as refused:
        refuse_unknown("--table", ["a", "c"], ["b", "a"])
    assert refused.value.remedy == "There are: a, b."


def test_rows_that_no_repair_may_decide_are_left() -> None:
    row = Difference("b", "t", 0, "id=1", Word.CHANGED, ("1",), Side.SOURCE)
    assert _why_left(row) == ""
    assert "no key" in _why_left(Difference("b", "t", 0, "digest", Word.MISSING, (), Side.SOURCE))
    assert "decide by hand" in _why_left(Difference("b", "t", 0, "id=1", Word.CHANGED, ("1",), None))
