"""How long, and how densely, a router goes on trying."""

from __future__ import annotations

import random
from time import monotonic, sleep

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

    def wait(self) -> bool:
        """Wait before the next attempt; False if there is no time for one."""
        pause = random.uniform(0, self._longest)
        if self.remaining <= pause:
            return False
        sleep(pause)
        self._longest = min(_LONGEST_WAIT_S, self._longest * 2)
        self.attempts += 1
        return True
