"""Moments as people of the fleet read them: by its time zone, which is named."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from foreshard import moments


def moment(of: datetime, timezone: str) -> str:
    """``Wed 27 Nov 13:00 EST``."""
    return moments.at(of, ZoneInfo(timezone))


def stored(moment: str) -> str:
    """``2026-11-23 15:02:00 UTC`` of a moment as a confirmation holds it."""
    return f"{datetime.fromisoformat(moment):%Y-%m-%d %H:%M:%S} UTC"


def hour(of: datetime, timezone: str) -> str:
    """``Wed 13:00``: within a forecast's days, where the zone is named elsewhere."""
    return f"{of.astimezone(ZoneInfo(timezone)):%a %H:%M}"
