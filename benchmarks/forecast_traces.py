"""Recorded loads: any Parquet file with the columns series_id, ts, metric and value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from foreshard.errors import InvalidInput
from foreshard.forecast.band import Floats

Steps = npt.NDArray[np.int64]

COLUMNS = ("series_id", "ts", "metric", "value")
MOST_SERIES = 400
"""More are sampled: what a benchmark says of 400 it says of 4,000, at a tenth of the cost."""
SHORTEST = timedelta(days=4)
COARSEST = timedelta(hours=1)
NEGATIVE = 0.05
"""A load is not below zero. Some such values are faults and become gaps; a series with more of them is no load."""
FULL = 1 / 3
"""Share of the usual number of samples below which a step's mean stands for too little of it."""


@dataclass(frozen=True, eq=False)
class Recording:
    """One metric of one series as it was recorded: ``stamps`` in seconds, increasing, with one value each."""

    series_id: str
    metric: str
    stamps: Steps
    values: Floats

    @property
    def sampling(self) -> int:
        """Seconds from one sample to the next, the median."""
        return int(np.median(np.diff(self.stamps)))

    @property
    def span(self) -> int:
        """Seconds from the first sample to the end of the last one."""
        return int(self.stamps[-1] - self.stamps[0]) + self.sampling

    def means(self, step: int, first: int, steps: int) -> Floats:
        """Means over ``steps`` steps of ``step`` seconds, the first being number ``first`` since 1970; NaN is a gap."""
        at = self.stamps // step - first
        inside = (at >= 0) & (at < steps)
        counts = np.bincount(at[inside], minlength=steps)
        sums = np.bincount(at[inside], weights=self.values[inside], minlength=steps)
        usual = np.median(counts[counts > 0]) if counts.any() else 1
        means = np.full(steps, np.nan)
        np.divide(sums, counts, out=means, where=counts >= max(1.0, FULL * usual))
        return means


@dataclass(frozen=True)
class Traces:
    """A file's recordings, and ``notes``: what was left out of it and why."""

    name: str
    recordings: tuple[Recording, ...]
    notes: tuple[str, ...]


def read_traces(file: Path, seed: int, most: int = MOST_SERIES) -> Traces:
    """All that can be judged, at most ``most`` series; ``seed`` decides which.

    Raises ``InvalidInput`` (field ``traces``): no such file, no Parquet, columns that are missing or hold something
    else, or nothing left that can be judged.
    """
    frame = _frame(file)
    notes: list[str] = []
    known = frame["ts"].notna() & np.isfinite(frame["value"])
    if not known.all():
        notes.append(f"{int((~known).sum())} of {len(frame)} rows have no time or no finite value")
    recordings: list[Recording] = []
    left_out: dict[str, int] = {}
    negative = 0
    for (series_id, metric), rows in frame[known].groupby(["series_id", "metric"], sort=True, observed=True):
        below = rows["value"] < 0
        means = rows[~below].groupby("ts", sort=True)["value"].mean()  # one value a stamp
        stamps = means.index.to_numpy().astype("datetime64[s]").astype(np.int64)
        recording = Recording(str(series_id), str(metric), stamps, means.to_numpy(float))
        if why := _unusable(recording, float(below.mean())):
            left_out[why] = left_out.get(why, 0) + 1
        else:
            negative += int(below.sum())
            recordings.append(recording)
    notes += [f"{count} series left out: {why}" for why, count in left_out.items()]
    if negative:
        notes.append(f"{negative} values below zero are gaps")
    if not recordings:
        raise InvalidInput(
            "traces", f"{file} holds no series that can be judged ({'; '.join(notes) or 'no rows'})"
        )
    if len(recordings) > most:
        notes.append(f"{most} of {len(recordings)} series, drawn with seed {seed}")
        drawn = np.random.default_rng(seed).choice(len(recordings), most, replace=False)
        recordings = [recordings[row] for row in sorted(drawn)]
    return Traces(file.stem, tuple(recordings), tuple(notes))


def _unusable(recording: Recording, negative: float) -> str | None:
    if negative > NEGATIVE:
        return f"more than {NEGATIVE:.0%} of the values are below zero"
    if len(recording.stamps) < 2 or recording.span < SHORTEST.total_seconds():
        return f"shorter than {SHORTEST.days} days"
    if recording.sampling > 1.2 * COARSEST.total_seconds():
        return f"sampled more coarsely than every {int(COARSEST.total_seconds()) // 60} minutes"
    return None


def _frame(file: Path) -> pd.DataFrame:
    """The four columns as text, UTC without zone, text and float; anything else is refused."""
    if not file.is_file():
        raise InvalidInput("traces", f"there is no file {file}")
    try:
        there = pq.read_schema(file).names
    except (pa.ArrowException, OSError) as error:
        raise InvalidInput("traces", f"{file} is no Parquet file ({str(error).splitlines()[0]})") from error
    if missing := [column for column in COLUMNS if column not in there]:
        raise InvalidInput("traces", f"{file} has no column {', '.join(missing)}; it has {', '.join(there)}")
    frame = pd.read_parquet(file, columns=list(COLUMNS))
    try:
        if pd.api.types.is_numeric_dtype(frame["ts"]):
            raise ValueError("numbers are no times")
        ts = pd.to_datetime(frame["ts"], utc=True).dt.tz_localize(None)
        value = pd.to_numeric(frame["value"]).astype(float)
    except (ValueError, TypeError) as error:
        raise InvalidInput(
            "traces", f"{file}: ts or value cannot be read ({str(error).splitlines()[0]})"
        ) from error
    names = {name: frame[name].astype(str).astype("category") for name in ("series_id", "metric")}
    return pd.DataFrame({**names, "ts": ts, "value": value})
