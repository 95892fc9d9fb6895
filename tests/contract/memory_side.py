"""One side of a migration in memory: what `foreshard.close`, `open` and `cancel` (sql/flip.sql) do, and refuse.

The state machines run on it; test_sides.py holds it against the real functions.
"""

from __future__ import annotations

from dataclasses import dataclass

from foreshard.postgres.guard import Side, SideState


class Refused(Exception):
    """What the server says with SQLSTATE FS004, or FS005 after a failover."""


@dataclass
class MemorySide:
    """Bound and flips of one side. ``sequence_flip`` and ``bound`` are the sequence: they stay if a call rolls back.

    ``flip_no`` and ``opened_flip`` are the row in foreshard.sides, which does not.
    """

    side: Side
    bound: int = 0
    sequence_flip: int = 0
    flip_no: int = 0
    opened_flip: int = 0
    timeline: int = 1
    guarded: int = 1
    """The timeline on which the bound counts: after a failover another one, until `adopt_timeline`."""

    @property
    def same_timeline(self) -> bool:
        """Whether anything is owned, opened or closed here."""
        return self.timeline == self.guarded

    @property
    def state(self) -> SideState:
        """As `guard.state` gives it."""
        return SideState(self.bound, self.flip_no, self.sequence_flip, True, self.same_timeline)

    def close(self, flip: int, bound: int, *, rolls_back: bool = False) -> None:
        """Give up keys.

        Raises:
            Refused: the flip is stale or cancelled here, or this would take keys; or after a failover.
        """
        if not self.same_timeline:
            raise Refused
        if flip < self.flip_no or (flip == self.flip_no and bound != self.bound):
            raise Refused
        if not (bound >= self.bound if self.side is Side.SOURCE else bound <= self.bound):
            raise Refused
        self.bound = bound
        if not rolls_back:
            self.flip_no = flip

    def open(self, flip: int, bound: int, *, rolls_back: bool = False) -> None:
        """Take keys.

        Raises:
            Refused: the flip is stale or cancelled here, or this would give keys up; or after a failover.
        """
        if not self.same_timeline:
            raise Refused
        if flip < self.flip_no or (flip == self.flip_no and self.opened_flip != flip):
            raise Refused
        if not (bound <= self.bound if self.side is Side.SOURCE else bound >= self.bound):
            raise Refused
        self.sequence_flip, self.bound = flip, bound
        if not rolls_back:
            self.flip_no = self.opened_flip = flip

    def cancel(self, flip: int, *, rolls_back: bool = False) -> bool:
        """Promise never to open the flip, nor to close for it unless that happened; False if it has opened."""
        if self.sequence_flip >= flip:
            return False
        if not rolls_back:
            self.flip_no = max(self.flip_no, flip)
        return True

    def fail_over(self) -> None:
        """Another server goes on with what it has."""
        self.timeline += 1

    def adopt_timeline(self, other_bound: int, seen: int) -> int:
        """Close again after a failover, as far as the other side owns keys; returns the bound. Once is enough.

        Raises:
            Refused: this is not the server that was ``seen``.
        """
        if seen != self.timeline:
            raise Refused
        if self.same_timeline:
            return self.bound
        furthest = max if self.side is Side.SOURCE else min
        self.bound = furthest(self.bound, other_bound)
        self.guarded = seen
        return self.bound

    def owns(self, slot: int) -> bool:
        """Whether a write to the slot is let through: owned here, and the mirror row agrees with the sequence."""
        owned = slot >= self.bound if self.side is Side.SOURCE else slot < self.bound
        return owned and self.same_timeline and self.opened_flip == self.sequence_flip
