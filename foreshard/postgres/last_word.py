"""The last word on a row that looked different on the two sides while writers were busy. Pure.

One key is read four times on both sides, with a drain in the middle (`Readings`). A drain returns when
everything committed on either side before it began has been applied on the other. From that follows:

- The owner shows one unchanged row version before and after: that version was committed before the drain,
  so the other side's copy, read in between, must equal it. If it does not, no writer can explain it.
- The owner shows no row before and after, and the other side shows one unchanged row version from before the
  owner's first look until after the drain: had the owner deleted it, the drain would have removed it too.

On one side versions (partition, xmin, ctid) are compared, not values: a value may change and change back in between.

Rows without a key come as groups of rows that print alike (`foreshard.postgres.row_identity`): ``digest`` is how many
they are, ``version`` stands for the versions of all. A group is judged more strictly: that small numbers agree at some
time says little.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from foreshard.postgres.pair import Sides

Key: TypeAlias = tuple[str, ...]
"""The key columns' values as text; of a group, the digest of its contents."""


class Seen(NamedTuple):
    """A row as one statement saw it: slot of its distribution key, version, digest of its values, chunk."""

    slot: int
    version: str
    digest: int
    chunk: int


Reading: TypeAlias = Mapping[Key, Seen]


class Word(StrEnum):
    """What is known of a key. Missing, ghost and changed are meant from the owner's side."""

    EQUAL = "equal"
    MISSING = "missing"  # the owner has the row, the other side lacks it
    GHOST = "ghost"  # only the other side has the row
    CHANGED = "changed"  # both have it, with other values
    UNSETTLED = "unsettled"  # a writer was in between: look again


@dataclass(frozen=True)
class Readings:
    """One round: ``before``, then ``first``, then a drain, then ``middle``, then ``last``.

    ``bound`` held for the whole round: the target owns the slots below it.
    """

    before: Sides[Reading]
    first: Sides[Reading]
    middle: Sides[Reading]
    last: Sides[Reading]
    bound: int


def last_word(key: Key, readings: Readings) -> Word:
    """What this round says of ``key``."""
    source = _Copy(readings, key, of_target=False)
    target = _Copy(readings, key, of_target=True)
    if _met(source, target):
        return Word.EQUAL
    owners = {slot < readings.bound for slot in source.slots | target.slots}
    if len(owners) == 2:
        # The copies disagree about the distribution key, so each is judged as an owner's.
        return Word.CHANGED if source.kept and target.kept else Word.UNSETTLED
    owner, other = (target, source) if owners == {True} else (source, target)
    if owner.kept:
        return Word.MISSING if other.middle is None else Word.CHANGED
    if owner.absent and other.kept_until_middle:
        return Word.GHOST
    return Word.UNSETTLED


def word_at_one_moment(key: Key, seen: Sides[Reading], bound: int) -> Word:
    """What two snapshots say of ``key`` between which nothing was under way: what differs there, differs."""
    source, target = seen.source.get(key), seen.target.get(key)
    if source is None or target is None:
        row = source or target
        if row is None:
            return Word.EQUAL
        of_owner = source if row.slot >= bound else target
        return Word.GHOST if of_owner is None else Word.MISSING
    return Word.EQUAL if source.digest == target.digest else Word.CHANGED


def last_word_on_group(key: Key, readings: Readings) -> Word:
    """What this round says of a group. Missing and ghost are rows of it; none can be changed.

    The owner's rows, the same ones before and after, were all committed before the drain: the other side has as many.
    More it may have, of a row that the owner wrote and deleted again in between, but then not the versions that it had
    before the owner's first look.
    """
    source = _Copy(readings, key, of_target=False)
    target = _Copy(readings, key, of_target=True)
    of_target = {slot < readings.bound for slot in source.slots | target.slots} == {True}
    owner, other = (target, source) if of_target else (source, target)
    if not (owner.kept or owner.absent):
        return Word.UNSETTLED
    surplus = _rows(other.middle) - _rows(owner.first)
    if surplus < 0:
        return Word.MISSING
    if surplus > 0:
        return Word.GHOST if other.kept_until_middle else Word.UNSETTLED
    return Word.EQUAL


def word_on_group_at_one_moment(key: Key, seen: Sides[Reading], bound: int) -> Word:
    """The same as `word_at_one_moment` of a group."""
    source, target = seen.source.get(key), seen.target.get(key)
    row = source or target
    surplus = _rows(target) - _rows(source)
    if row is None or not surplus:
        return Word.EQUAL
    return Word.GHOST if (surplus > 0) == (row.slot >= bound) else Word.MISSING


def _rows(group: Seen | None) -> int:
    return group.digest if group else 0


class _Copy:
    """The key's row on one side through the round."""

    def __init__(self, readings: Readings, key: Key, *, of_target: bool) -> None:
        def row(sides: Sides[Reading]) -> Seen | None:
            return (sides.target if of_target else sides.source).get(key)

        self.before, self.first = row(readings.before), row(readings.first)
        self.middle, self.last = row(readings.middle), row(readings.last)

    @property
    def slots(self) -> set[int]:
        return {seen.slot for seen in (self.before, self.first, self.middle, self.last) if seen}

    @property
    def kept(self) -> bool:
        """One version from the first look to the last, so also at the drain."""
        return self.first is not None and self.last is not None and self.first.version == self.last.version

    @property
    def kept_until_middle(self) -> bool:
        return (
            self.before is not None and self.middle is not None and self.before.version == self.middle.version
        )

    @property
    def absent(self) -> bool:
        return self.first is None and self.last is None


def _met(source: _Copy, target: _Copy) -> bool:
    """The sides agreed at one time or, for a row written all the time, within the round."""

    def digest(seen: Seen | None) -> int | None:
        return seen.digest if seen else None

    source_middle, target_middle = digest(source.middle), digest(target.middle)
    return (
        source_middle in {digest(target.first), target_middle, digest(target.last)}
        or target_middle in {digest(source.first), digest(source.last)}
        or digest(source.last) == digest(target.last)
    )
