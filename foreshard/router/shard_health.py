"""Which shards answer. One that has been away for longer than a call is patient is not waited for any more."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from time import monotonic

from foreshard.router.failures import ShardDown

_PROBE_EVERY_S = 1.0


@dataclass
class _Away:
    since: float
    next_probe: float


class ShardHealth:
    """Remembers since when shards do not answer. Thread-safe.

    ``patience_s``: as long as a shard has been away for less, callers wait for it, since it may be restarting. After
    that each is refused at once, so that threads of the application do not pile up there; but for one a second, which
    finds out whether the shard is back.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._away: dict[str, _Away] = {}
        self._lock = threading.Lock()

    def admit(self, shard: str) -> None:
        """Pass a caller that may try the shard.

        Raises:
            ShardDown: it has been away for too long.
        """
        away = self._away.get(shard)
        if away is None:
            return
        now = monotonic()
        with self._lock:
            if now - away.since < self._patience_s:
                return
            if now >= away.next_probe:
                away.next_probe = now + _PROBE_EVERY_S
                return
        raise ShardDown(f"{shard} has not answered for {now - away.since:.0f} s")

    def answered(self, shard: str) -> None:
        """Note that it answers."""
        if shard in self._away:
            with self._lock:
                self._away.pop(shard, None)

    def failed(self, shard: str, for_s: float) -> None:
        """Note that no connection can be made, for ``for_s`` seconds already."""
        with self._lock:
            if shard not in self._away:
                now = monotonic()
                self._away[shard] = _Away(now - for_s, now)
