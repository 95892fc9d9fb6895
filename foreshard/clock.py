"""The fleet clock: the only source of "now" for load, forecasts and plans.

It is real time, or real time plus a fixed offset (demos and replays). Clocks never decide who owns a key:
ownership lives on the shards.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


@dataclass(frozen=True)
class FleetClock:
    """Real time plus ``offset``."""

    offset: timedelta = timedelta(0)

    def now(self) -> datetime:
        """The fleet's present, timezone-aware, UTC."""
        return datetime.now(UTC) + self.offset

    def from_real(self, moment: datetime) -> datetime:
        """A real instant as the fleet sees it. ``moment`` must be timezone-aware."""
        return moment + self.offset
