"""The calendar of declared events and their expected effect on load."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from foreshard.errors import InvalidInput
from foreshard.forecast.band import Floats
from foreshard.forecast.series import STEP, SeriesKey


@dataclass(frozen=True)
class Event:
    """Something that people know and history does not: from ``starts_at`` until ``ends_at`` load is
    ``effect`` times its ordinary value (1.35 = 35 % more).

    It concerns the series of the named shards and of the named buckets; with neither named, every series.
    Which share of a shard an event of some buckets takes is not known here: name the shard as well.
    """

    name: str
    starts_at: datetime
    ends_at: datetime
    effect: float
    shards: frozenset[str] | None = None
    buckets: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise InvalidInput("name", "an event needs a name")
        for field, moment in (("starts_at", self.starts_at), ("ends_at", self.ends_at)):
            if moment.tzinfo is None:
                raise InvalidInput(field, f"event {self.name}: {moment} has no time zone")
        if self.ends_at <= self.starts_at:
            raise InvalidInput("ends_at", f"event {self.name} ends at {self.ends_at}, before it starts")
        if not (math.isfinite(self.effect) and self.effect > 0):
            raise InvalidInput("effect", f"event {self.name}: {self.effect} is not a positive number")

    def concerns(self, key: SeriesKey) -> bool:
        """Whether the event changes this series."""
        if self.shards is None and self.buckets is None:
            return True
        return key.shard in (self.shards or ()) or key.bucket in (self.buckets or ())


def effect(events: Iterable[Event], key: SeriesKey, ts: pd.DatetimeIndex) -> Floats:
    """The declared factor on the series at each step that starts at ``ts``, shape (steps,).

    A step that an event covers in part gets that part of its effect; overlapping events multiply.
    """
    factor = np.ones(len(ts))
    for event in events:
        if event.concerns(key):
            # In steps since the event's start; an event is covered from 0 to its length.
            begin = np.asarray((ts - pd.Timestamp(event.starts_at)) / STEP)
            length = (event.ends_at - event.starts_at) / STEP
            share = np.clip(np.minimum(begin + 1.0, length) - np.maximum(begin, 0.0), 0.0, 1.0)
            factor *= 1.0 + (event.effect - 1.0) * share
    return factor
