"""Recorded loads as a trace to replay: Parquet or CSV with the columns series_id, ts, metric and value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from foreshard.errors import InvalidInput
from foreshard.planning.view import Floats
from foreshard.simulate.trace import STEPS, Trace

COLUMNS = ("series_id", "ts", "metric", "value")
DAY = 86_400
SPANS = (56, 42, 27, 20, 13, 9, 6)
"""Days: all buckets have the same span, the longest of these that enough series reach."""
ENOUGH = 6
JITTER = 1.2
"""Stamps a little further apart than a step still belong to it."""
MEDIAN_BYTES, SPREAD = 20e9, 0.7
"""Sizes are not recorded: they are drawn, lognormal."""


@dataclass(frozen=True, eq=False)
class Series:
    """One bucket's load as it was recorded: ``stamps`` in seconds since 1970, increasing."""

    name: str
    metric: str
    stamps: Floats
    values: Floats

    @property
    def sampling(self) -> float:
        """Seconds from one sample to the next, the median."""
        return float(np.median(np.diff(self.stamps)))

    @property
    def days(self) -> float:
        """From the first sample to the last."""
        return float(self.stamps[-1] - self.stamps[0] + self.sampling) / DAY


@dataclass(frozen=True, eq=False)
class Recorded:
    """A trace, and what had to be done to the file to get it."""

    trace: Trace
    notes: tuple[str, ...]


def read_trace(
    file: Path,
    *,
    buckets: int | None = None,
    least: int = 1,
    step: timedelta | None = None,
    metric: str | None = None,
    most_days: int = 56,
    seed: int = 1,
) -> Recorded:
    """The file's series as buckets on one grid, ending together (moved by whole weeks, so that weekdays stay true).

    ``most_days``: no longer than that. ``buckets``: so many, None for one a series but ``least``; where the file has
    fewer series, each is taken again, turned by whole days, some hours earlier or later and smaller or larger.
    ``step``: the finest that enough series are sampled at. Series of several metrics have no unit in common: each is
    divided by its mean. Load stands for queries.

    Raises ``InvalidInput`` (field ``traces``): no such file, other columns, nothing that can be replayed.
    """
    found = _read(file, metric)
    notes: list[str] = []
    chosen = step or next(
        (one for one in STEPS if len(_at_least(found, one, SPANS[-3])) >= min(ENOUGH, len(found))), STEPS[-1]
    )
    span, usable = next(
        (
            (days, of)
            for days in SPANS
            if days <= most_days
            if len(of := _at_least(found, chosen, days)) >= min(ENOUGH, len(found))
        ),
        (0, []),
    )
    if not usable:
        raise InvalidInput(
            "traces",
            f"{file} holds no {min(ENOUGH, len(found))} series of {SPANS[-1]} days in steps of {chosen}",
        )
    if len(usable) < len(found):
        notes.append(
            f"{len(found) - len(usable)} of {len(found)} series are shorter than {span} days or too coarse"
        )
    random = np.random.default_rng(seed)
    seconds = int(chosen.total_seconds())
    steps, day = span * DAY // seconds, DAY // seconds
    grids = [_on_grid(one, seconds) for one in usable]
    last = max(grid.until for grid in grids)
    grids = [grid.up_to(last, steps, day) for grid in grids]
    if off := sum((last - grid.until) % (7 * day) > 0 for grid in grids):
        notes.append(f"{off} series are too short to be moved by whole weeks: their weekdays are not true")
    mixed = len({one.metric for one in usable}) > 1
    if mixed:
        notes.append("series of several metrics: each is divided by its mean")
    many = buckets or max(len(usable), least)
    if many > len(usable):
        notes.append(f"{many} buckets of {len(usable)} series: other days of them, other hours, other scales")
    loads, gaps = [], 0.0
    for number in range(many):
        grid, again = grids[number % len(usable)], number // len(usable)
        whole = grid.values
        gaps += grid.gaps / many
        if again:
            whole = np.roll(whole, int(random.integers(1, max(2, len(whole) // day))) * day)
            whole = np.roll(whole, int(random.integers(-3, 4)) * 3600 // seconds)
        load = whole[-steps:]
        if mixed:
            load = load / max(float(whole.mean()), 1e-9)
        loads.append(load * (float(random.lognormal(0.0, 0.4)) if again or mixed else 1.0))
    if gaps > 0:
        notes.append(f"gaps ({gaps:.1%}) are filled by straight lines")
    load = np.stack(loads)
    size = np.exp(random.normal(np.log(MEDIAN_BYTES), SPREAD, many)).astype(np.int64)
    trace = Trace(
        names=tuple(f"b{number:04}" for number in range(many)),
        metrics=("load" if mixed else usable[0].metric,),
        load=load[:, None],
        queries=100.0 * load / np.maximum(load.mean(axis=1, keepdims=True), 1e-9),
        size_bytes=size,
        starts_at=datetime.fromtimestamp((last - steps) * seconds, UTC),
        step=chosen,
    )
    return Recorded(trace, tuple(notes))


def _read(file: Path, metric: str | None) -> list[Series]:
    frame = _frame(file)
    if metric is not None:
        frame = frame[frame["metric"] == metric]
        if frame.empty:
            raise InvalidInput("--metric", f"{file} has no metric {metric}")
    found: dict[str, Series] = {}
    groups = frame.groupby(["metric", "series_id"], sort=True, observed=True)
    for (of, name), rows in groups:
        means = rows.groupby("ts", sort=True)["value"].mean()
        stamps = means.index.to_numpy().astype("datetime64[s]").astype(np.int64).astype(float)
        if str(name) not in found and len(stamps) > 2 and float(means.max()) > 0:
            found[str(name)] = Series(str(name), str(of), stamps, means.to_numpy(float))
    if not found:
        raise InvalidInput("traces", f"{file} holds no series with a load")
    return list(found.values())


def _frame(file: Path) -> pd.DataFrame:
    """Times are UTC without zone; rows without time, without a number, or below zero are gaps."""
    if not file.is_file():
        raise InvalidInput("traces", f"there is no file {file}")
    try:
        if file.suffix == ".parquet":
            missing = set(COLUMNS) - set(pq.read_schema(file).names)
        else:
            missing = set(COLUMNS) - set(pd.read_csv(file, nrows=0).columns)
        if missing:
            raise InvalidInput("traces", f"{file} has no column {', '.join(sorted(missing))}")
        read = pd.read_parquet if file.suffix == ".parquet" else _csv
        frame = read(file, columns=list(COLUMNS))
        frame["ts"] = pd.to_datetime(frame["ts"], utc=True).dt.tz_localize(None)
        frame["value"] = pd.to_numeric(frame["value"]).astype(float)
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput("traces", f"{file} cannot be read ({str(error).splitlines()[0]})") from error
    kept: pd.DataFrame = frame[frame["ts"].notna() & np.isfinite(frame["value"]) & (frame["value"] >= 0)]
    return kept


def _csv(file: Path, columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame(pd.read_csv(file, usecols=columns))


def _at_least(series: Sequence[Series], step: timedelta, days: int) -> list[Series]:
    most = JITTER * step.total_seconds()
    return [one for one in series if one.sampling <= most and one.days >= days]


@dataclass(frozen=True, eq=False)
class _Grid:
    """Means over steps, whole days, up to the step ``until`` since 1970; ``gaps``: the share that was filled."""

    values: Floats
    until: int
    gaps: float

    def up_to(self, last: int, steps: int, day: int) -> _Grid:
        """Without its last days, so that it ends whole weeks before ``last``, if so many ``steps`` are left."""
        cut = -(last - self.until) % (7 * day)
        if not cut or len(self.values) - cut < steps:
            return self
        return _Grid(self.values[:-cut], self.until - cut, self.gaps)


def _on_grid(one: Series, seconds: int) -> _Grid:
    day = DAY // seconds
    at = (one.stamps // seconds).astype(np.int64)
    first, until = -(-int(at[0]) // day) * day, (int(at[-1]) + 1) // day * day
    if until - first < day:
        first = until - day
    inside = (at >= first) & (at < until)
    counts = np.bincount(at[inside] - first, minlength=until - first)
    sums = np.bincount(at[inside] - first, weights=one.values[inside], minlength=until - first)
    known = np.flatnonzero(counts)
    means = np.interp(np.arange(until - first), known, sums[known] / counts[known])
    return _Grid(means, until, float((counts == 0).mean()))
