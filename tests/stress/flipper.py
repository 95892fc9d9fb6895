"""Moves the bound back and forth at random, and keeps the figures."""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from foreshard.errors import FlipFailed
from foreshard.migration.flip import FlipResult, flip
from foreshard.migration.runner import Runner
from foreshard.topology.keys import SLOTS
from tests.stress.stress_fleet import allow_cutover

EDGES = (0, 1, SLOTS - 1, SLOTS)
EDGE_SHARE = 0.4
SAY_EVERY_S = 2.0

Flip: TypeAlias = Callable[[Runner, int], FlipResult | None]


def real_flip(runner: Runner, bound: int) -> FlipResult | None:
    """The product's flip, with what it asks for beforehand."""
    if bound == SLOTS:
        allow_cutover(runner)
    return flip(runner.work, bound)


@dataclass
class Flipper:
    """Flips within one runner. ``failed``: the fence or the marker could not be had, ownership stayed."""

    runner: Runner
    draw: random.Random
    flip: Flip = real_flip
    edges: Sequence[int] = EDGES
    edge_share: float = EDGE_SHARE
    """Bounds of which one is drawn with that probability; else any."""
    bound: int = 0
    done: int = 0
    failed: int = 0
    close_attempts: int = 0
    pauses_ms: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def run(
        self, flips: int | None, say: Callable[[str], None], stop: Callable[[], bool] = lambda: False
    ) -> None:
        """So many flips that succeed (None: any number), or until ``stop``; ``say`` is told how far every two seconds.

        Raises:
            FlipFailed: hardly any flip succeeds.
        """
        wanted = math.inf if flips is None else self.done + flips
        of = "" if flips is None else f" of {wanted}"
        begun = said = time.monotonic()
        while self.done < wanted and not stop():
            self._once()
            self.seconds += time.monotonic() - begun
            begun = time.monotonic()
            if begun - said >= SAY_EVERY_S:
                said = begun
                say(f"{self.done}{of} flips, {self.failed} failed, {self.done / self.seconds:.1f}/s")

    def figures(self) -> dict[str, Any]:
        """Counts and pauses, ready for JSON."""
        return {
            "flips": self.done,
            "flips_failed": self.failed,
            "flips_per_s": round(self.done / self.seconds, 2) if self.seconds else 0.0,
            "close_attempts": self.close_attempts,
            "pause_ms": percentiles(self.pauses_ms),
        }

    def _once(self) -> None:
        bound = self._drawn()
        while bound == self.bound:
            bound = self._drawn()
        try:
            done = self.flip(self.runner, bound)
        except FlipFailed:
            self.failed += 1
            self.bound = self.runner.record.bound
            if self.failed > 20 + self.done:
                raise
            return
        self.bound = bound
        self.done += 1
        if done is not None:
            self.pauses_ms.append(done.pause_ms)
            self.close_attempts += done.attempts

    def _drawn(self) -> int:
        if self.draw.random() < self.edge_share:
            return self.draw.choice(self.edges)
        return self.draw.randint(0, SLOTS)


def percentiles(values: list[float]) -> dict[str, float]:
    """p50, p99 and the largest; empty if there is nothing."""
    if len(values) < 2:
        return {"max": round(values[0], 3)} if values else {}
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {"p50": round(cuts[49], 3), "p99": round(cuts[98], 3), "max": round(max(values), 3)}
