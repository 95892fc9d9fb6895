"""The last word on rows without a key that print alike: against every history of writes and lags."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from foreshard.postgres.last_word import (
    Reading,
    Readings,
    Seen,
    Word,
    last_word_on_group,
    word_on_group_at_one_moment,
)
from foreshard.postgres.pair import Sides

KEY = ("-77",)
BOUND = 512
OF_SOURCE, OF_TARGET = 600, 100


@dataclass
class Copies:
    """The versions of equal rows of one owner, and a replica that applies the owner's writes in order, some time later.

    A write inserts a row (True) or deletes one. The replica does not know which of its rows the owner meant.
    """

    slot: int
    owner: list[int] = field(default_factory=list)
    replica: list[int] = field(default_factory=list)
    pending: list[tuple[bool, int]] = field(default_factory=list)
    versions: int = 0

    def write(self, insert: bool, which: int) -> None:
        if insert:
            self.owner.append(self.version())
        elif self.owner:
            self.owner.pop(which % len(self.owner))
        else:
            return
        self.pending.append((insert, which))

    def version(self) -> int:
        self.versions += 1
        return self.versions

    def lag_behind(self, writes: int) -> None:
        """The replica may stay this far behind."""
        while len(self.pending) > writes:
            insert, which = self.pending.pop(0)
            if insert:
                self.replica.append(self.version())
            elif self.replica:
                self.replica.pop(which // 3 % len(self.replica))

    def read(self) -> Sides[Reading]:
        owner, replica = self._reading(self.owner), self._reading(self.replica)
        return Sides(owner, replica) if self.slot >= BOUND else Sides(replica, owner)

    def _reading(self, rows: list[int]) -> Reading:
        return {KEY: Seen(self.slot, str(sorted(rows)), len(rows), 0)} if rows else {}


write = st.tuples(st.booleans(), st.integers(0, 8))
busy = st.lists(write, max_size=4)
slots = st.sampled_from([OF_SOURCE, OF_TARGET])


def watch(copies: Copies, gaps: list[list[tuple[bool, int]]], lags: list[int]) -> Word:
    """One round: read, write, read, write, drain, write, read, write, read."""
    readings = []
    for turn in range(4):
        if turn == 2:
            copies.lag_behind(0)  # the drain: all that was committed before it is applied
        for insert, which in gaps[turn]:
            copies.write(insert, which)
        copies.lag_behind(lags[turn])
        readings.append(copies.read())
    return last_word_on_group(KEY, Readings(*readings, bound=BOUND))


@settings(max_examples=1000, deadline=None)
@given(
    slot=slots, past=busy, gaps=st.tuples(busy, busy, busy, busy), lags=st.tuples(*[st.integers(0, 9)] * 4)
)
# One more and away again while the replica is read: the owner's rows are the same before and after.
@example(
    slot=OF_SOURCE,
    past=[(True, 0)],
    gaps=([], [], [(True, 0)], [(False, 1)]),
    lags=(0, 0, 0, 0),
)
def test_copies_that_only_lag_never_differ(
    slot: int,
    past: list[tuple[bool, int]],
    gaps: tuple[list[tuple[bool, int]], ...],
    lags: tuple[int, ...],
) -> None:
    copies = Copies(slot)
    for insert, which in past:
        copies.write(insert, which)
    copies.lag_behind(lags[0])
    assert watch(copies, list(gaps), list(lags)) in (Word.EQUAL, Word.UNSETTLED)


@given(slot=slots, rows=st.integers(0, 3), there=st.integers(0, 3))
def test_a_fault_at_rest_gets_its_name(slot: int, rows: int, there: int) -> None:
    copies = Copies(slot)
    copies.owner = [copies.version() for _ in range(rows)]
    copies.replica = [copies.version() for _ in range(there)]
    expected = Word.EQUAL if rows == there else Word.GHOST if there > rows else Word.MISSING
    assert watch(copies, [[], [], [], []], [0, 0, 0, 0]) is expected
    assert word_on_group_at_one_moment(KEY, copies.read(), BOUND) is expected


@pytest.mark.parametrize("late", range(4))
def test_a_group_is_judged_when_its_writers_pause_and_not_by_a_number_that_fits(late: int) -> None:
    """The replica has one row too many; the owner's next insert makes the numbers meet for a moment."""
    copies = Copies(OF_SOURCE)
    copies.owner, copies.replica = [copies.version()], [copies.version(), copies.version()]
    gaps: list[list[tuple[bool, int]]] = [[], [], [], []]
    gaps[late] = [(True, 0)]
    assert watch(copies, gaps, [9, 9, 9, 9]) is not Word.EQUAL
    copies.lag_behind(0)
    assert watch(copies, [[], [], [], []], [0, 0, 0, 0]) is Word.GHOST
