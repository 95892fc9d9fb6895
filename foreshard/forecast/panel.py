"""A panel: the load of many series on one grid of times, and what the calendar knows of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd

from foreshard.errors import InvalidInput
from foreshard.forecast.calendar import Event
from foreshard.forecast.series import SeriesKey

Values = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
UTC_ZONE = ZoneInfo("UTC")


@dataclass(frozen=True, eq=False)
class Panel:
    """``values``: shape (series, steps), means over steps in the metrics' units, NaN where nothing is known.

    The first step begins at ``starts_at``, which lies on the grid of ``step``; the series are in the order of
    ``keys``. ``timezone`` is where the load's people live: their habits follow its wall clock. ``events`` are known
    in advance, after the panel's end too; what they do to load is for the models to learn.

    Raises ``InvalidInput``: ``values`` for another shape or no floats, ``starts_at`` off the grid or without time
    zone, ``step`` that does not divide a day.
    """

    keys: tuple[SeriesKey, ...]
    values: Values
    starts_at: datetime
    step: timedelta
    timezone: ZoneInfo = UTC_ZONE
    events: tuple[Event, ...] = ()

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or len(self.values) != len(self.keys) or self.values.dtype != np.float32:
            raise InvalidInput(
                "values",
                f"{self.values.dtype} of shape {self.values.shape} is not float32 of {len(self.keys)} series",
            )
        if self.step <= timedelta(0) or DAY % self.step:
            raise InvalidInput("step", f"{self.step} does not divide a day")
        if self.starts_at.tzinfo is None:
            raise InvalidInput("starts_at", f"{self.starts_at} has no time zone")
        if (self.starts_at - datetime(1970, 1, 1, tzinfo=UTC)) % self.step:
            raise InvalidInput("starts_at", f"{self.starts_at} is not on the grid of {self.step}")

    @property
    def steps(self) -> int:
        """How many steps are known, gaps included."""
        return int(self.values.shape[1])

    @property
    def ends_at(self) -> datetime:
        """Where the last step ends and a forecast begins."""
        return self.starts_at + self.steps * self.step

    @property
    def day(self) -> int:
        """Steps of a day."""
        return DAY // self.step

    def times(self, first: int, until: int) -> pd.DatetimeIndex:
        """Beginnings (UTC) of the steps ``first`` .. ``until - 1``; steps beyond the end are the future's."""
        return pd.date_range(
            self.starts_at + first * self.step, periods=until - first, freq=self.step, tz="UTC"
        )

    def wall_clock(self, first: int, until: int) -> pd.DatetimeIndex:
        """The same on the wall clock of ``timezone``, without zone; where clocks go back an hour comes twice."""
        return self.times(first, until).tz_convert(self.timezone).tz_localize(None)

    def until(self, end: int) -> Panel:
        """What was known when step ``end`` began: steps ``0 .. end - 1``; a view, no copy.

        Raises ``InvalidInput`` (field ``end``) outside the panel.
        """
        if not 0 <= end <= self.steps:
            raise InvalidInput("end", f"{end} is not a step of this panel (0 to {self.steps})")
        return replace(self, values=self.values[:, :end])

    def last(self, steps: int) -> Panel:
        """The last ``steps`` of it, or all if it is shorter; a view."""
        cut = max(0, self.steps - steps)
        return replace(self, values=self.values[:, cut:], starts_at=self.starts_at + cut * self.step)

    def rows(self, rows: Rows) -> Panel:
        """Only the series at ``rows``, in that order."""
        return replace(self, keys=tuple(self.keys[row] for row in rows), values=self.values[rows])

    def with_values(self, values: Values) -> Panel:
        """Other values of the same series at the same times."""
        return replace(self, values=values)
