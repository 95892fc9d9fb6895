"""The last word on a row: against every history of writes and lags that hypothesis can think of."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import example, given, settings
from hypothesis import strategies as st

from foreshard.postgres.last_word import Reading, Readings, Seen, Word, last_word
from foreshard.postgres.pair import Sides

KEY = ("1",)
BOUND = 512
OF_SOURCE, OF_TARGET = 600, 100


@dataclass
class Copies:
    """One row of one owner, and its replica that applies the owner's writes in order, some time later.

    A write is a digest, or None for a delete. ``fault`` puts something onto the replica that no writer wrote.
    """

    slot: int
    history: list[Seen | None] = field(default_factory=lambda: [None])
    applied: int = 0
    fault: list[Seen | None] = field(default_factory=list)
    versions: int = 0

    def row(self, digest: int | None) -> Seen | None:
        self.versions += 1
        return None if digest is None else Seen(self.slot, f"{self.versions}", digest, 0)

    def write(self, digest: int | None) -> None:
        self.history.append(self.row(digest))

    def lag_behind(self, writes: int) -> None:
        """The replica may stay this far behind, and never goes back."""
        applied = max(self.applied, len(self.history) - 1 - writes)
        if applied > self.applied:
            self.fault.clear()  # a later write of the owner overwrites it
        self.applied = applied

    def read(self) -> Sides[Reading]:
        replica = self.history[self.applied]
        if replica is not None:  # the replica's row versions are its own
            replica = replica._replace(version=f"replica of {replica.version}")
        if self.fault:
            replica = self.fault[-1]
        owner, other = _reading(self.history[-1]), _reading(replica)
        return Sides(owner, other) if self.slot >= BOUND else Sides(other, owner)


def _reading(seen: Seen | None) -> Reading:
    return {} if seen is None else {KEY: seen}


values = st.one_of(st.none(), st.integers(0, 2))  # few values: they come back, and must not fool it
busy = st.lists(values, max_size=3)
slots = st.sampled_from([OF_SOURCE, OF_TARGET])


def watch(copies: Copies, gaps: list[list[int | None]], lags: list[int]) -> Word:
    """One round: read, write, read, write, drain, write, read, write, read."""
    readings = []
    for turn in range(4):
        for digest in gaps[turn]:
            copies.write(digest)
        if turn == 2:
            # The drain: all that was committed before it, so before what was written in this gap, is applied.
            copies.lag_behind(len(gaps[turn]))
        copies.lag_behind(lags[turn])
        readings.append(copies.read())
    return last_word(KEY, Readings(*readings, bound=BOUND))


@settings(max_examples=500, deadline=None)
@given(
    slot=slots, past=busy, gaps=st.tuples(busy, busy, busy, busy), lags=st.tuples(*[st.integers(0, 9)] * 4)
)
# There and back while the replica stands in between: the owner's value is the same, its row version is not.
@example(slot=OF_SOURCE, past=[0], gaps=([], [], [1, 0], []), lags=(0, 0, 1, 1))
# Inserted and deleted again: the owner has no row before and after, the replica has one in between.
@example(slot=OF_SOURCE, past=[], gaps=([], [], [1, None], []), lags=(0, 0, 1, 1))
def test_copies_that_only_lag_never_differ(
    slot: int,
    past: list[int | None],
    gaps: tuple[list[int | None], ...],
    lags: tuple[int, ...],
) -> None:
    copies = Copies(slot)
    for digest in past:
        copies.write(digest)
    assert watch(copies, list(gaps), list(lags)) in (Word.EQUAL, Word.UNSETTLED)


@given(slot=slots, owner=values, fault=st.one_of(st.none(), st.integers(0, 3)))
def test_a_fault_at_rest_gets_its_name(slot: int, owner: int | None, fault: int | None) -> None:
    copies = Copies(slot)
    copies.write(owner)
    copies.lag_behind(0)
    copies.fault.append(copies.row(fault))
    word = watch(copies, [[], [], [], []], [0, 0, 0, 0])
    if owner == fault:
        assert word is Word.EQUAL
    elif fault is None:
        assert word is Word.MISSING
    elif owner is None:
        assert word is Word.GHOST
    else:
        assert word is Word.CHANGED


def test_a_row_at_rest_on_both_sides_with_another_distribution_key_is_changed() -> None:
    one, other = Seen(OF_SOURCE, "1", 1, 0), Seen(OF_TARGET, "9", 2, 0)
    still = Sides(_reading(one), _reading(other))
    assert last_word(KEY, Readings(still, still, still, still, BOUND)) is Word.CHANGED
    written = Sides(_reading(one), _reading(other._replace(version="10", digest=3)))
    assert last_word(KEY, Readings(still, still, still, written, BOUND)) is Word.UNSETTLED


def test_a_row_that_moves_to_another_key_is_looked_at_again() -> None:
    """Deleted at one owner, inserted at the other: both copies disagree only while that is under way."""
    one, other = Seen(OF_SOURCE, "1", 1, 0), Seen(OF_TARGET, "9", 2, 0)
    under_way = Sides(_reading(one), _reading(other))
    settled = Sides(_reading(other._replace(version="5")), _reading(other))
    assert last_word(KEY, Readings(under_way, under_way, under_way, settled, BOUND)) is Word.EQUAL
    gone = Sides(_reading(None), _reading(other))
    assert last_word(KEY, Readings(under_way, under_way, under_way, gone, BOUND)) is Word.UNSETTLED


@settings(max_examples=300, deadline=None)
@given(slot=slots, gaps=st.lists(st.tuples(busy, busy, busy, busy), min_size=1, max_size=4))
def test_equal_in_the_end_once_the_writers_pause(slot: int, gaps: list[tuple[list[int | None], ...]]) -> None:
    copies = Copies(slot)
    for gap in gaps:
        watch(copies, list(gap), [9, 9, 9, 9])
    assert watch(copies, [[], [], [], []], [9, 9, 9, 9]) is Word.EQUAL
