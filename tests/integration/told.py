"""What callers of a service were told, and whether it ever contradicted itself. Pure.

Only rising values are told: a counter, or whether a thing is there (0, then 1). Whoever asks after somebody has been
told a value must be told that one or a higher one; whoever raises it, a higher one.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Told:
    """One answer: ``value`` of ``what``. ``begun`` and ``ended`` are seconds of one clock for all callers.

    ``raised``: the request raised the value to what was told, it did not just ask.
    """

    what: str
    value: int
    begun: float
    ended: float
    raised: bool = False


def contradictions(history: Iterable[Told]) -> list[str]:
    """The answers that are older than what had been told before they were asked for.

    Requests that overlap may be served in either order. It cannot see: writes that are lost or doubled where nobody
    asked again (`foreshard.fleet.checker` does).
    """
    by_thing: dict[str, list[Told]] = defaultdict(list)
    for told in history:
        by_thing[told.what].append(told)
    found = []
    for what, answers in sorted(by_thing.items()):
        under_way: list[tuple[float, int]] = []
        known = -1
        for told in sorted(answers, key=lambda answer: answer.begun):
            while under_way and under_way[0][0] <= told.begun:
                known = max(known, heapq.heappop(under_way)[1])
            if told.value < known or (told.raised and told.value == known):
                found.append(f"{what}: {known} had been told, then {told.value}")
            heapq.heappush(under_way, (told.ended, told.value))
    return found
