"""When a migration may run: maintenance windows of the week, and blackouts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Blackout:
    """From ``starts_at`` until ``ends_at`` (UTC) no migration may run."""

    name: str
    starts_at: datetime
    ends_at: datetime
