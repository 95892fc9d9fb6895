"""Moments as people read them: day, hour, and whose clock it is."""

from __future__ import annotations

from datetime import datetime, tzinfo


def clock(moment: datetime) -> str:
    """``Wed 27 Nov 18:00``, by the moment's own zone."""
    return f"{moment:%a %d %b %H:%M}"


def at(moment: datetime, zone: tzinfo) -> str:
    """``Wed 27 Nov 13:00 EST``, by the clock of ``zone``."""
    return f"{moment.astimezone(zone):%a %d %b %H:%M %Z}"
