"""The calendar of declared events and their expected effect on load."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from foreshard.errors import InvalidInput
from foreshard.forecast.band import Floats
from foreshard.forecast.series import STEP, SeriesKey

if TYPE_CHECKING:
    import pandas as pd

    from foreshard.forecast.panel import Panel, Values


class EventKind(StrEnum):
    """Why load is not what it commonly is; or, of a blackout, when no migration may run."""

    PROMOTION = "promotion"
    HOLIDAY = "holiday"
    BLACKOUT = "blackout"


@dataclass(frozen=True)
class Event:
    """Something that people know and history does not: from ``starts_at`` until ``ends_at`` load is
    ``effect`` times its ordinary value (1.35 = 35 % more).

    A holiday's effect may be None: nobody says what it is, it is to be learnt, and until then it changes nothing.
    A blackout has none, concerns the whole fleet, and no forecast is told of it.
    An event concerns the series of the named shards and of the named buckets; with neither named, every series.
    Which share of a shard an event of some buckets takes is not known here: name the shard as well.
    """

    name: str
    starts_at: datetime
    ends_at: datetime
    effect: float | None
    shards: frozenset[str] | None = None
    buckets: frozenset[str] | None = None
    kind: EventKind = EventKind.PROMOTION

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise InvalidInput("name", "an event needs a name.", remedy="Say what it is.")
        for field, moment in (("starts_at", self.starts_at), ("ends_at", self.ends_at)):
            if moment.tzinfo is None:
                raise InvalidInput(
                    field, f"event {self.name}: {moment} has no time zone.", remedy="Add an offset."
                )
        if self.ends_at <= self.starts_at:
            raise InvalidInput(
                "ends_at",
                f"event {self.name} ends at {self.ends_at}, not after its start at {self.starts_at}.",
                remedy="The end is when it is over; of a whole day, the next day.",
            )
        check_effect(self.effect, self.kind, f"event {self.name}: ")
        for field, named in (("shards", self.shards), ("buckets", self.buckets)):
            if self.kind is EventKind.BLACKOUT and named is not None:
                raise InvalidInput(
                    field,
                    f"event {self.name}: a blackout is of the whole fleet.",
                    remedy="Name no shard and no bucket.",
                )

    def concerns(self, key: SeriesKey) -> bool:
        """Whether the event changes this series."""
        if self.shards is None and self.buckets is None:
            return True
        return key.shard in (self.shards or ()) or key.bucket in (self.buckets or ())

    def overlaps(self, other: Event) -> bool:
        """Whether both change some series at some time: their effects then multiply."""
        at_once = self.starts_at < other.ends_at and other.starts_at < self.ends_at
        everywhere = any(one.shards is None and one.buckets is None for one in (self, other))
        common = (self.shards or frozenset()) & (other.shards or frozenset()) or (
            (self.buckets or frozenset()) & (other.buckets or frozenset())
        )
        return at_once and (everywhere or bool(common))


def check_effect(effect: float | None, kind: EventKind, of: str = "") -> None:
    """Raises ``InvalidInput`` (field ``effect``) for one that is no positive number, that a promotion lacks, or that a
    blackout has.
    """
    if kind is EventKind.BLACKOUT:
        if effect is not None:
            raise InvalidInput(
                "effect", f"{of}a blackout has none.", remedy="Declare a promotion beside it for the load."
            )
    elif effect is None:
        if kind is EventKind.PROMOTION:
            raise InvalidInput(
                "effect", f"{of}a promotion needs one.", remedy="1.35 means 35 % more load than commonly."
            )
    elif not (math.isfinite(effect) and effect > 0):
        raise InvalidInput(
            "effect",
            f"{of}{effect:g} is not a positive number.",
            remedy="1.35 means 35 % more load than commonly, 0.5 half of it.",
        )


def overlapping(event: Event, others: Iterable[Event]) -> list[Event]:
    """Those of ``others`` whose effect multiplies with the event's; without one declared, none."""
    if event.effect is None:
        return []
    return [other for other in others if other.effect is not None and event.overlaps(other)]


def coverage(event: Event, times: pd.DatetimeIndex, step: timedelta) -> Floats:
    """Share, 0 to 1, that the event covers of each step of length ``step`` that begins at ``times``; (steps,)."""
    import pandas as pd  # here: the janitor reads the calendar each minute, and covers no step

    # In steps since the event's start; an event is covered from 0 to its length.
    begin = np.asarray((times - pd.Timestamp(event.starts_at)) / step)
    length = (event.ends_at - event.starts_at) / step
    share: Floats = np.clip(np.minimum(begin + 1.0, length) - np.maximum(begin, 0.0), 0.0, 1.0)
    return share


def effects(events: Sequence[Event], panel: Panel, first: int, until: int) -> Values:
    """The declared factors on the panel's series in its steps ``first`` .. ``until - 1``; shape (series, steps).

    Steps behind the panel's end are the future's. A step that an event covers in part gets that part of its effect;
    overlapping events multiply. ``events`` without declared effect, and series that no event concerns, have 1. The
    array may be read-only.
    """
    shape = (len(panel.keys), until - first)
    begin, end = panel.starts_at + first * panel.step, panel.starts_at + until * panel.step
    declared = [
        event
        for event in events
        if event.effect is not None and event.starts_at < end and event.ends_at > begin
    ]
    if not declared:
        return np.broadcast_to(np.float32(1.0), shape)
    factors = np.ones(shape, np.float32)
    times = panel.times(first, until)
    rows = _Rows(panel.keys)
    for event in declared:
        share = coverage(event, times, panel.step)
        covered = np.flatnonzero(share)
        if event.effect is not None and len(covered):
            part = slice(covered[0], covered[-1] + 1)
            factors[rows.of(event), part] *= (1.0 + (event.effect - 1.0) * share[part]).astype(np.float32)
    return factors


class _Rows:
    """Finds the rows of the series that an event concerns without asking each of them for each event."""

    def __init__(self, keys: Sequence[SeriesKey]) -> None:
        self._shards: dict[str, list[int]] = {}
        self._buckets: dict[str, list[int]] = {}
        for row, key in enumerate(keys):
            if key.shard is not None:
                self._shards.setdefault(key.shard, []).append(row)
            if key.bucket is not None:
                self._buckets.setdefault(key.bucket, []).append(row)

    def of(self, event: Event) -> slice | list[int]:
        if event.shards is None and event.buckets is None:
            return slice(None)
        found: list[int] = []
        for names, rows in ((event.shards, self._shards), (event.buckets, self._buckets)):
            for name in names or ():
                found += rows.get(name, [])
        return found


def effect(events: Sequence[Event], key: SeriesKey, ts: pd.DatetimeIndex) -> Floats:
    """The declared factor on one hourly series at each step that starts at ``ts``, shape (steps,)."""
    factor = np.ones(len(ts))
    for event in events:
        if event.effect is not None and event.concerns(key):
            factor *= 1.0 + (event.effect - 1.0) * coverage(event, ts, STEP)
    return factor
