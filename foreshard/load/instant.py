"""When something was read, by clocks that cannot be set as well as by those that can; and how long it is since then.

Which clock may lie? The fleet clock is the wall clock of whoever collects: it may step, and two collectors' may differ.
A shard's wall clock may step, too. The seconds since the boot of the collector's machine do not step, and go on while
it sleeps, but mean nothing on another machine, and stand still while a virtual machine is paused. None is believed
alone where there is another one: two readings of a shard's counters are as far apart as the collector's clock (since
boot if it is the same boot, else the wall) and the shard's own clock both say. Where they disagree by more than a
second and a hundredth, one has lied, nobody knows which, and there is a gap. Where they agree the longer one counts,
so that a rate is rather too low than too high. Steps of both clocks by the same amount, seen from two collectors, are
the one thing that stays unseen.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import psutil

from foreshard.clock import FleetClock

MAX_GAP = timedelta(minutes=10)
"""Between readings further apart too much may have happened for one mean to say anything."""

TOLERANCE_S = 1.0
TOLERANCE_SHARE = 0.01

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SINCE_BOOT = getattr(
    time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC
)  # only Linux has the one that counts sleep


@dataclass(frozen=True)
class Instant:
    """A moment by the fleet clock (``wall``) and by the seconds ``boot_s`` since the boot called ``boot``."""

    wall: datetime
    boot: str
    boot_s: float


@dataclass(frozen=True)
class CollectorClock:
    """Both clocks of this machine."""

    fleet: FleetClock

    def now(self) -> Instant:
        """This moment."""
        return Instant(self.fleet.now(), _boot(), time.clock_gettime(_SINCE_BOOT))


def interval_s(
    before: Instant,
    after: Instant,
    *,
    server_s: float | None = None,
    covered_until: datetime | None = None,
) -> float | None:
    """Seconds from one reading to the next, as this module's text says; None if they cannot be known.

    ``server_s``: the same by the clock of the server that was read. Without it, as for this machine's own counters,
    readings of two boots have no interval. ``covered_until`` (fleet time): samples tell of the time up to it already;
    an interval that reaches back behind it, since the fleet clock was put back, is none.
    """
    same_boot = before.boot == after.boot
    if server_s is None and not same_boot:
        return None
    ours = after.boot_s - before.boot_s if same_boot else (after.wall - before.wall).total_seconds()
    shorter, longer = sorted((ours, ours if server_s is None else server_s))
    if shorter <= 0 or longer > MAX_GAP.total_seconds() or longer - shorter > tolerance_s(longer):
        return None
    begin = after.wall - timedelta(seconds=longer)
    if covered_until is not None and begin < covered_until - timedelta(seconds=tolerance_s(longer)):
        return None
    return longer


def tolerance_s(seconds: float) -> float:
    """By how much two honest clocks may differ over that time, slow answers included."""
    return TOLERANCE_S + TOLERANCE_SHARE * seconds


@cache
def _boot() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:  # not Linux: moves with the wall clock, which makes a gap and no harm
        return f"{psutil.boot_time():.0f}"
