"""How far a canary step moves the bound: far enough that the target takes the wished share of the *writes*.

Pure. A share of slots is no share of writes: with few hot keys one slot in a hundred may carry none of them, or half.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from typing import Any, Self

from foreshard.topology.keys import SLOTS

ENOUGH_WRITES = 100
"""Fewer measured writes say too little about where writes go; then the share is one of slots."""


@dataclass(frozen=True)
class Share:
    """A bound, and what lies below it: per cent of the slots, and of the measured writes (None: not measured)."""

    bound: int
    slots_percent: float
    writes_percent: float | None

    def __str__(self) -> str:
        slots = f"{self.slots_percent:.3g} % of slots"
        return slots if self.writes_percent is None else f"{self.writes_percent:.3g} % of writes ({slots})"

    def as_json(self) -> dict[str, Any]:
        """For the migration's facts; `from_json` reads it."""
        return dict(self.__dict__)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """What `as_json` wrote; other fields are left alone."""
        return cls(document["bound"], document["slots_percent"], document["writes_percent"])


def bound_for(percent: float, writes: Mapping[int, int], present: int) -> Share:
    """The bound for a step of ``percent`` (0 < percent < 100) while the bound stands at ``present`` (0..1023).

    ``writes``: measured writes per slot. Of the bounds above ``present`` and below 1024 whose share of the writes is
    not nothing, the one whose share is nearest to the wish; the lower of two. Where fewer than `ENOUGH_WRITES` were
    measured, or none of them below slot 1023, the share is one of slots. Where no slot is left to take before the
    cutover, the present bound. Never falls when ``percent`` rises.
    """
    lowest, highest = max(1, present + 1), SLOTS - 1
    if lowest > highest:
        return _share(present, writes)
    below = [0, *accumulate(writes.get(slot, 0) for slot in range(SLOTS))]
    first = max(lowest, bisect_left(below, 1))
    if below[SLOTS] < ENOUGH_WRITES or first > highest:
        return _share(min(highest, max(lowest, round(SLOTS * percent / 100))), {})
    wish = Fraction(percent) * below[SLOTS] / 100
    # Shares rise with the bound: the nearest is the first that reaches the wish, or the one before it.
    reaches = min(highest, bisect_left(below, wish, lo=first, hi=highest))
    short = max(first, bisect_left(below, below[reaches - 1], lo=first, hi=reaches))
    return _share(min((short, reaches), key=lambda bound: abs(below[bound] - wish)), writes)


def _share(bound: int, writes: Mapping[int, int]) -> Share:
    total = sum(writes.values())
    below = sum(count for slot, count in writes.items() if slot < bound)
    return Share(bound, 100 * bound / SLOTS, 100 * below / total if total else None)
