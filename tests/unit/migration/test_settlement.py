"""What an interrupted flip needs, for every state in which a runner can die."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.migration.settlement import Bounds, Settlement, settlement
from foreshard.topology.keys import SLOTS

BOUND = st.integers(0, SLOTS)


@pytest.mark.parametrize(
    ("bounds", "intended", "journalled", "expected"),
    [
        ((None, None), None, 0, Settlement.NOTHING),
        ((None, 0), 400, 0, Settlement.NOTHING),
        ((0, 0), None, 0, Settlement.NOTHING),
        ((400, 400), None, 0, Settlement.CORRECT_JOURNAL),  # failed over, both of them
        ((0, 0), 400, 0, Settlement.CANCEL),  # raising: it died before the close
        ((400, 0), 400, 0, Settlement.CARRY_OUT),  # between close and open
        ((400, 400), 400, 0, Settlement.CONFIRM),  # after the open
        ((400, 0), None, 0, Settlement.INTEND_TAKE_BACK),  # cancelled, not taken back
        ((400, 0), 0, 0, Settlement.TAKE_BACK),  # while it took back
        ((400, 400), 0, 400, Settlement.CANCEL),  # the same for lowering
        ((400, 0), 0, 400, Settlement.CARRY_OUT),
        ((0, 0), 0, 400, Settlement.CONFIRM),
        ((400, 0), None, 400, Settlement.INTEND_TAKE_BACK),
        ((400, 0), 400, 400, Settlement.TAKE_BACK),
    ],
)
def test_every_place_in_which_a_runner_dies(
    bounds: tuple[int | None, int | None], intended: int | None, journalled: int, expected: Settlement
) -> None:
    assert settlement(Bounds(*bounds), intended, journalled) is expected


@given(low=BOUND, high=BOUND, intended=st.none() | BOUND, journalled=BOUND)
def test_keys_without_an_owner_always_get_one(
    low: int, high: int, intended: int | None, journalled: int
) -> None:
    low, high = sorted((low, high))
    what = settlement(Bounds(source=high, target=low), intended, journalled)
    opens = {Settlement.CARRY_OUT, Settlement.TAKE_BACK, Settlement.INTEND_TAKE_BACK}
    assert (what in opens) == (low < high)


@given(source=BOUND, target=BOUND)
def test_two_owners_are_seen(source: int, target: int) -> None:
    assert Bounds(source, target).overlap == any(
        slot < target and slot >= source for slot in range(min(source, target) - 1, max(source, target) + 1)
    )
