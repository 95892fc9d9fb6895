"""How long, and how densely, a router goes on trying. Pure but for the clock."""

from __future__ import annotations

import random
from time import monotonic

_FIRST_WAIT_S = 0.005
_LONGEST_WAIT_S = 0.1


class Patience:
    """Time to go on trying. Waits double from 5 to 100 ms, jittered so that routers do not march in step."""

    def __init__(self, seconds: float) -> None:
        self._until = monotonic() + seconds
        self._longest = _FIRST_WAIT_S
        self.attempts = 1

    @property
    def remaining(self) -> float:
        """Seconds left."""
        return max(0.0, self._until - monotonic())

    def next_pause(self) -> float | None:
        """Seconds to wait before the next attempt; None if there is no time for one."""
        pause = random.uniform(0, self._longest)
        if self.remaining <= pause:
            return None
        self._longest = min(_LONGEST_WAIT_S, self._longest * 2)
        self.attempts += 1
        return pause
