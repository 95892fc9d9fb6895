"""Load of the whole fleet on one grid of times, as the forecast needs it: arrays, not a series for each bucket."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from foreshard.control.engine import ControlDatabase
from foreshard.control.load_levels import FIVE_MINUTES, HOURS, MICROSECOND, Level, microseconds
from foreshard.control.load_names import Metric
from foreshard.control.load_snapshot import LoadSnapshot
from foreshard.control.load_sql import transaction
from foreshard.errors import InvalidInput
from foreshard.forecast.activity import Counted, Counts
from foreshard.forecast.least_squares import Floats
from foreshard.load.rollup import Matrix, Rows, Windows, roll_up

QUARTER = timedelta(minutes=15)
STEPS = (timedelta(minutes=5), QUARTER, timedelta(hours=1))
"""Those of a grid. A quarter of an hour is made of three windows of five minutes, as an hour is of twelve."""


@dataclass(frozen=True, eq=False)
class LoadGrid:
    """Means over ``windows`` steps from ``since`` on, NaN where nothing was measured.

    ``buckets``: by metric and shard what its buckets did there: parts that add up, while a bucket moves. ``shards``: by
    metric and shard its own measurement, shape (windows,).
    """

    since: datetime
    step: timedelta
    windows: int
    buckets: Counted
    shards: Mapping[str, Mapping[str, Floats]]


def load_grid(
    control: ControlDatabase,
    of_buckets: Sequence[str],
    of_shards: Collection[str],
    since: datetime,
    until: datetime,
    step: timedelta,
) -> LoadGrid:
    """Those metrics, as of one moment. It begins with the first step at or after ``since`` that anything is known of.

    Raises:
        InvalidInput: a ``step`` that is none of `STEPS`; ``since`` that is not on the grid.
    """
    if step not in STEPS:
        raise InvalidInput("step", f"{step} is not one that is kept", remedy="Use 5, 15 or 60 minutes.")
    if (since - HOURS.start(since)) % step:
        raise InvalidInput("since", f"{since} is not the start of a step of {step}.")
    buckets: dict[str, dict[str, Counts]] = {metric: {} for metric in of_buckets}
    shards: dict[str, dict[str, Floats]] = {metric: {} for metric in of_shards}
    windows = (until - since) // step
    with transaction(control, snapshot=True) as conn:
        snapshot = LoadSnapshot(conn)
        names = {number: name for name, number in snapshot.names.shards.items()}
        for metric in dict.fromkeys([*of_buckets, *of_shards]):
            of = snapshot.names.metrics.get(metric)
            if of is None:
                continue
            rows = _rows(snapshot, of, since, until, step, shards_only=metric not in buckets)
            for number in sorted(rows, key=lambda one: names[one]):
                own, values = _on_grid(rows.pop(number), since, step, windows)
                if metric in shards and not np.isnan(own).all():
                    shards[metric][names[number]] = own.astype(np.float64)
                known = np.logical_or.reduce(~np.isnan(values), axis=1)
                if known.any():
                    members = snapshot.names.members[number][1:]
                    chosen = tuple(name for name, here in zip(members, known, strict=False) if here)
                    buckets[metric][names[number]] = Counts(chosen, values if known.all() else values[known])
    return _trimmed(LoadGrid(since, step, windows, buckets, shards))


def _rows(
    snapshot: LoadSnapshot,
    metric: Metric,
    since: datetime,
    until: datetime,
    step: timedelta,
    *,
    shards_only: bool,
) -> dict[int, Rows]:
    level: Level = HOURS if step == HOURS.step else FIVE_MINUTES
    rows = (
        snapshot.rows(level, metric, since, until, columns=1)
        if shards_only
        else snapshot.rows(level, metric, since, until)
    )
    if step == level.step:
        return rows
    assert level.step is not None
    windows = Windows(step // MICROSECOND, level.step // MICROSECOND)
    return roll_up(rows, windows, snapshot.several, additive=metric.additive)


def _on_grid(rows: Rows, since: datetime, step: timedelta, windows: int) -> tuple[Matrix, Matrix]:
    """The shard's own values, shape (windows,), and its buckets', shape (buckets, windows)."""
    at = (rows.ts - microseconds(since)) // (step // MICROSECOND)
    found = np.full((rows.width, windows), np.nan, np.float32)
    found[:, at] = rows.values.T
    return found[0], found[1:]


def _trimmed(grid: LoadGrid) -> LoadGrid:
    """Without the steps in front in which nothing at all was known: nothing is kept for ever."""
    known = [~np.isnan(counts.values).all(axis=0) for of in grid.buckets.values() for counts in of.values()]
    known += [~np.isnan(values) for of in grid.shards.values() for values in of.values()]
    first = min((int(windows.argmax()) for windows in known), default=0)
    if not first:
        return grid
    return LoadGrid(
        grid.since + first * grid.step,
        grid.step,
        grid.windows - first,
        {
            metric: {shard: Counts(one.buckets, one.values[:, first:]) for shard, one in of.items()}
            for metric, of in grid.buckets.items()
        },
        {
            metric: {shard: values[first:] for shard, values in of.items()}
            for metric, of in grid.shards.items()
        },
    )
