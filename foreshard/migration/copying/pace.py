"""How fast rows may be copied. Pure but for the clock that it is given."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

BURST_S = 0.02
"""What was not used can be used later, up to this long: a longer burst is what the application would feel."""

SLOWEST_BYTES_PER_S = 256 * 1024
FASTEST_BYTES_PER_S = 1e9
BACK_OFF = 0.6
SPEED_UP = 1.15
HOLD = 0.05
"""Below the limit by no more than this the rate stays: it would only go up to come down again."""


class Pace:
    """The rate of all workers together, in bytes/s: a fixed limit, and one that follows the source's utilisation.

    Where neither is set, nothing waits. ``clock`` gives seconds that only grow.
    """

    def __init__(self, limit_bytes_per_s: float | None, clock: Callable[[], float]) -> None:
        self._limit = limit_bytes_per_s
        self._clock = clock
        self._adaptive: float | None = None
        self._lock = Lock()
        self._free_at = clock()
        self._waited_s = 0.0

    @property
    def bytes_per_s(self) -> float | None:
        """The rate that holds now; None where there is no limit."""
        limits = [limit for limit in (self._limit, self._adaptive) if limit is not None]
        return min(limits) if limits else None

    @property
    def waited_s(self) -> float:
        """Seconds that workers were told to wait, all together."""
        return self._waited_s

    def wait_s(self, size: int) -> float:
        """Seconds to wait after ``size`` bytes before there may be more. Workers share the rate."""
        with self._lock:
            rate, now = self.bytes_per_s, self._clock()
            if rate is None:
                return 0.0
            self._free_at = max(self._free_at, now - BURST_S) + size / rate
            wait = max(0.0, self._free_at - now)
            self._waited_s += wait
            return wait

    def begin(self, bytes_per_s: float) -> None:
        """The rate that is expected to be right; `follow` corrects it."""
        with self._lock:
            self._adaptive = max(SLOWEST_BYTES_PER_S, bytes_per_s)

    def follow(self, utilisation: float, limit: float, present_bytes_per_s: float) -> None:
        """Slow down while ``utilisation`` is above ``limit`` (shares of capacity), speed up slowly while well below.

        ``present_bytes_per_s``: what is really copied, where a slowing-down starts from. Once nothing needs to be
        slowed there is no limit any more.
        """
        with self._lock:
            if utilisation > limit:
                start = self._adaptive if self._adaptive is not None else present_bytes_per_s
                self._adaptive = max(SLOWEST_BYTES_PER_S, min(start, present_bytes_per_s or start) * BACK_OFF)
            elif self._adaptive is not None and utilisation < limit - HOLD:
                self._adaptive *= SPEED_UP
                if self._adaptive > FASTEST_BYTES_PER_S:
                    self._adaptive = None
