"""The three tables of load, and their partitions' names and borders."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum

from psycopg import sql

from foreshard.load.rollup import Windows

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
"""From which PostgreSQL counts microseconds."""

MICROSECOND = timedelta(microseconds=1)


def microseconds(moment: datetime) -> int:
    """Since `EPOCH`. ``moment`` is timezone-aware."""
    return (moment - EPOCH) // MICROSECOND


def moment_of(count: int) -> datetime:
    """The opposite of `microseconds`."""
    return EPOCH + count * MICROSECOND


class Period(Enum):
    """What a partition spans."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"

    def start(self, moment: datetime) -> datetime:
        """Of the period that holds ``moment``, in UTC."""
        day = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        if self is Period.WEEK:
            return day - timedelta(days=day.weekday())
        return day.replace(day=1) if self is Period.MONTH else day

    def end(self, start: datetime) -> datetime:
        """Of the period that begins at ``start``."""
        if self is Period.MONTH:
            return (start + timedelta(days=32)).replace(day=1)
        return start + timedelta(days=7 if self is Period.WEEK else 1)


@dataclass(frozen=True)
class Level:
    """One of the tables. ``step``: of its rows, None for samples as measured; ``below``: what it is rolled up from."""

    name: str
    period: Period
    step: timedelta | None = None
    below: Level | None = None

    @property
    def table(self) -> sql.Identifier:
        return sql.Identifier(f"load_{self.name}")

    @property
    def windows(self) -> Windows:
        """Its rows as windows of the level below: of minutes, if that holds samples as measured."""
        assert self.step is not None
        assert self.below is not None
        unit = self.below.step or timedelta(minutes=1)
        return Windows(self.step // MICROSECOND, unit // MICROSECOND, of_samples=self.below.step is None)

    def start(self, moment: datetime) -> datetime:
        """Of the window that holds ``moment``."""
        assert self.step is not None
        return moment - (moment - EPOCH) % self.step

    def partition(self, start: datetime) -> str:
        """The name of the partition that begins at ``start``."""
        return f"{self.name}_{start:%Y%m%d}"


RAW = Level("raw", Period.DAY)
FIVE_MINUTES = Level("five_minutes", Period.WEEK, timedelta(minutes=5), RAW)
HOURS = Level("hours", Period.MONTH, timedelta(hours=1), FIVE_MINUTES)
LEVELS = (RAW, FIVE_MINUTES, HOURS)


def window_of(ts: datetime) -> datetime:
    """The start of the five minutes that a sample of that time, which is the end of what it tells of, lies in."""
    return FIVE_MINUTES.start(ts - MICROSECOND)
