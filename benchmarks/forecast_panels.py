"""Panels of recorded loads: on one grid, ending in the same week, buckets and the shards made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from benchmarks.forecast_traces import Recording, Steps, Traces
from foreshard.forecast.band import Floats
from foreshard.forecast.history import History
from foreshard.forecast.panel import DAY, HOUR, Panel
from foreshard.forecast.scores import Bools
from foreshard.forecast.series import SeriesKey

WEEK = 7 * DAY
WINDOW = WEEK
"""At most: a series is judged on its last week, or on the last quarter of its span."""
FINE = timedelta(minutes=5)
KEPT = {HOUR: 8 * WEEK, FINE: 3 * WEEK}
"""History before the week that is judged; more costs time and is not what a forecast would be fitted to."""
JITTER = 1.2
"""Stamps a little further apart than the grid's step still belong to it."""
SUMS = 12
FEWEST, MOST = 10, 40
"""Buckets of a shard."""
SPANS = tuple(timedelta(days=days) for days in (27, 13, 6, 4))
"""A sum is as long as its shortest part: parts are as long as the first of these that enough series reach."""
ENOUGH = 6


@dataclass(frozen=True, eq=False)
class Grid:
    """Series on one grid. Of each, shape (series,): ``first`` and ``end``, the steps between which it is known,
    gaps aside; ``window``: the steps before ``end`` that it is judged on; ``shard``: a sum and no single series;
    ``coarse``: sampled more coarsely than ``FINE``.
    """

    history: History
    first: Steps
    end: Steps
    window: Steps
    shard: Bools
    coarse: Bools
    notes: tuple[str, ...]

    @property
    def panel(self) -> Panel:
        """Everything, the future included."""
        return self.history.panel


def grid_of(traces: Traces, step: timedelta, seed: int) -> Grid | None:
    """Means over ``step`` of all series sampled finely enough for it, and sums of them; None if there are none."""
    seconds = int(step.total_seconds())
    recordings = [each for each in traces.recordings if each.sampling <= JITTER * seconds]
    if not recordings:
        return None
    shifted = _one_week(recordings)
    last = max(int(each.stamps[-1]) for each in shifted)
    until = last // seconds + 1
    kept = (KEPT[step] + WINDOW + WEEK) // DAY
    day = DAY // step
    first = max(until // day - kept, min(int(each.stamps[0]) for each in shifted) // seconds // day) * day
    values = np.stack([each.means(seconds, first, until - first) for each in shifted])
    coarse = np.asarray([each.sampling > JITTER * FINE.total_seconds() for each in shifted])
    keys = [SeriesKey(None, each.series_id, each.metric) for each in shifted]
    spans = np.asarray([each.span for each in shifted]) // seconds
    notes = []
    if cut := int((spans > KEPT[step] // step + WINDOW // step).sum()):
        notes.append(f"{cut} series cut to {KEPT[step] // DAY} days before the week that is judged")
    parts, how = _parts(shifted, values, spans, day, seed)
    if how:
        notes.append(how)
    for number, (rows, weights) in enumerate(parts):
        keys.append(SeriesKey(f"shard-{number:02}", None, shifted[rows[0]].metric))
        values = np.concatenate([values, (values[rows] * weights[:, None]).sum(axis=0, keepdims=True)])
        coarse = np.append(coarse, coarse[rows].any())
    begins, ends, judged = _known(values, day)
    enough = judged > 0
    if not enough.any():
        return None
    if not enough.all():
        notes.append(f"{int((~enough).sum())} series or sums are known too little to be judged")
    panel = Panel(
        tuple(keys), values.astype(np.float32), datetime.fromtimestamp(first * seconds, UTC), step
    ).rows(np.flatnonzero(enough))
    shard = np.asarray([key.bucket is None for key in panel.keys])
    return Grid(
        History(panel), begins[enough], ends[enough], judged[enough], shard, coarse[enough], tuple(notes)
    )


def _one_week(recordings: Sequence[Recording]) -> list[Recording]:
    """Moved by whole weeks, so that all end within the same one: weekdays and hours stay true."""
    week = int(WEEK.total_seconds())
    latest = max(int(each.stamps[-1]) for each in recordings)
    return [
        Recording(
            each.series_id,
            each.metric,
            each.stamps + (latest - int(each.stamps[-1])) // week * week,
            each.values,
        )
        for each in recordings
    ]


def _known(values: Floats, day: int) -> tuple[Steps, Steps, Steps]:
    """First step, end and window of each row; the window is 0 if three days with two of values are not there."""
    there = np.isfinite(values)
    first = there.argmax(axis=1)
    end = np.where(there.any(axis=1), there.shape[1] - there[:, ::-1].argmax(axis=1), 0)
    window = np.clip((end - first) // 4, day, WINDOW // DAY * day)
    usable = (there.sum(axis=1) >= 2 * day) & (end - first >= 3 * day)
    return first, end, np.where(usable, window, 0)


def _parts(
    recordings: Sequence[Recording], values: Floats, spans: Steps, day: int, seed: int
) -> tuple[list[tuple[Steps, Floats]], str | None]:
    """Rows and weights of each sum, and a note where they are no sums of 10 to 40 of one metric."""
    wanted = next(
        (span for span in SPANS if (spans >= span // DAY * day).sum() >= min(ENOUGH, len(spans))), SPANS[-1]
    )
    level = _levels(values, day)
    usable = (spans >= wanted // DAY * day) & (level > 0)
    metrics = np.asarray([each.metric for each in recordings])
    pools = [
        np.flatnonzero(usable & (metrics == metric))
        for metric in sorted(set(metrics))
        if (usable & (metrics == metric)).sum() >= FEWEST
    ]
    how = None
    weights = np.ones(len(values))
    if not pools:
        pools = [np.flatnonzero(usable)]
        weights = np.where(usable, 1.0 / np.where(usable, level, 1.0), 0.0)
        how = "shards are sums across metrics, each part divided by its mean before the week that is judged"
    random = np.random.default_rng(seed)
    drawn: dict[tuple[int, ...], None] = {}
    for turn in range(10 * SUMS):
        pool = pools[turn % len(pools)]
        if len(pool) < 2 or len(drawn) == SUMS:
            continue
        # Ten or eleven series give too few different sums of ten.
        fewest = FEWEST if len(pool) >= FEWEST + 2 else (len(pool) + 1) // 2
        size = int(random.integers(fewest, min(MOST, len(pool)) + 1))
        drawn[tuple(sorted(random.choice(pool, size, replace=False)))] = None
    if not drawn:
        return [], "too few series for sums"
    if min(map(len, drawn)) < FEWEST:
        how = f"{how or 'shards are sums'}; of {min(map(len, drawn))} to {max(map(len, drawn))} of the {len(pools[0])} "
        how += f"series of {wanted.days} days or more"
    return [(np.asarray(rows), weights[list(rows)]) for rows in drawn], how


def _levels(values: Floats, day: int) -> Floats:
    """Mean of each row before its window."""
    levels = np.zeros(len(values))
    for row, (end, window) in enumerate(zip(*_known(values, day)[1:], strict=True)):
        before = values[row, : end - window]
        if np.isfinite(before).any():
            levels[row] = np.nanmean(before)
    return levels
