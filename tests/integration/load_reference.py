"""What means of load should be, worked out from the samples one by one: an independent word against the store's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from statistics import fmean

from foreshard.load.sample import Sample

FIVE, HOUR, MINUTE = timedelta(minutes=5), timedelta(hours=1), timedelta(minutes=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Key = tuple[str, str, str]
"""Metric, shard, bucket ('' for the shard)."""
Values = Mapping[datetime, Mapping[Key, float]]


def floor(ts: datetime, step: timedelta) -> datetime:
    return ts - (ts - EPOCH) % step


def minutes_of(samples: Iterable[Sample]) -> Values:
    """Means of each minute; of the same time the first sample counts."""
    first: dict[tuple[datetime, Key], float] = {}
    for one in samples:
        first.setdefault((one.ts, (one.metric, one.shard, one.bucket or "")), one.value)
    minutes: dict[datetime, dict[Key, list[float]]] = {}
    for (ts, key), value in first.items():
        told = ts - timedelta(microseconds=1)  # a sample bears the end of what it tells of
        minutes.setdefault(floor(told, MINUTE), {}).setdefault(key, []).append(value)
    return {ts: {key: fmean(each) for key, each in of.items()} for ts, of in minutes.items()}


def rolled(values: Values, step: timedelta) -> Values:
    """Means of windows by the rule that `load.rollup` gives in words."""
    windows: dict[datetime, list[Mapping[Key, float]]] = {}
    for ts, of in values.items():
        windows.setdefault(floor(ts, step), []).append(of)
    found: dict[datetime, dict[Key, float]] = {}
    for start, units in windows.items():
        for key in {key for unit in units for key in unit}:
            metric, _, bucket = key
            here = [unit[key] for unit in units if key in unit]
            if bucket and (metric.endswith("_per_s") or metric == "cpu_cores"):
                anywhere = sum(any((m, b) == (metric, bucket) for m, _, b in unit) for unit in units)
                found.setdefault(start, {})[key] = sum(here) / anywhere
            else:
                found.setdefault(start, {})[key] = fmean(here)
    return found


def five_minutes_of(samples: Iterable[Sample]) -> Values:
    return rolled(minutes_of(samples), FIVE)


def hours_of(samples: Iterable[Sample]) -> Values:
    return rolled(five_minutes_of(samples), HOUR)
