"""Recorded loads of any sampling, calendar and quality become panels; what cannot is told in one line."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.forecast_panels import FINE, grid_of
from benchmarks.forecast_traces import read_traces
from foreshard.errors import InvalidInput
from foreshard.forecast.panel import HOUR

MINUTE = timedelta(minutes=1)


def _frame(name: str, start: str, days: float, sampling: timedelta, metric: str = "rps") -> pd.DataFrame:
    ts = pd.date_range(start, periods=int(timedelta(days=days) / sampling), freq=sampling)
    hour = ts.hour.to_numpy() + ts.minute.to_numpy() / 60
    value = (
        10 + 5 * np.sin(2 * np.pi * hour / 24) + 0.01 * np.arange(len(ts)) * (sampling / timedelta(days=1))
    )
    return pd.DataFrame({"series_id": name, "ts": ts, "metric": metric, "value": value.astype(np.float32)})


def _file(folder: Path, *frames: pd.DataFrame) -> Path:
    file = folder / "load.parquet"
    pd.concat(frames).to_parquet(file)
    return file


def test_every_sampling_finds_its_grids(tmp_path: Path) -> None:
    file = _file(
        tmp_path,
        *(_frame(f"s{minutes}", "2024-03-04", 12, minutes * MINUTE) for minutes in (1, 5, 30, 60)),
        _frame("too-coarse", "2024-03-04", 12, 180 * MINUTE),
        _frame("too-short", "2024-03-04", 3, 5 * MINUTE),
    )
    traces = read_traces(file, seed=1)
    assert sorted(note.split(": ")[1] for note in traces.notes) == [
        "sampled more coarsely than every 60 minutes",
        "shorter than 4 days",
    ]
    hourly, fine = grid_of(traces, HOUR, 1), grid_of(traces, FINE, 1)
    assert hourly is not None
    assert fine is not None
    assert [key.bucket for key in hourly.panel.keys if key.bucket] == ["s1", "s30", "s5", "s60"]
    assert hourly.coarse[:4].tolist() == [False, True, False, True]
    assert [key.bucket for key in fine.panel.keys if key.bucket] == ["s1", "s5"]
    # A quarter of twelve days.
    assert set(hourly.window[~hourly.shard].tolist()) == {72}
    assert set(fine.window[~fine.shard].tolist()) == {864}


def test_calendars_meet_in_one_week_and_keep_weekday_and_hour(tmp_path: Path) -> None:
    file = _file(
        tmp_path,
        _frame("old", "2014-02-14 14:00", 14, HOUR),
        _frame("new", "2019-05-01 03:00", 30, HOUR),
    )
    grid = grid_of(read_traces(file, seed=1), HOUR, 1)
    assert grid is not None
    rows = {key.bucket: row for row, key in enumerate(grid.panel.keys)}
    first = grid.panel.times(0, grid.panel.steps)[grid.first[rows["old"]]]
    assert (first.dayofweek, first.hour) == (4, 14)  # a Friday, as 2014-02-14 was
    assert grid.end[rows["new"]] == grid.panel.steps
    assert 0 <= grid.panel.steps - grid.end[rows["old"]] < 7 * 24
    np.testing.assert_allclose(
        grid.panel.values[rows["old"], grid.first[rows["old"]]],
        10 + 5 * np.sin(2 * np.pi * 14 / 24),
        rtol=1e-5,
    )


def test_gaps_duplicates_disorder_and_nonsense(tmp_path: Path) -> None:
    clean = _frame("a", "2024-03-04", 10, HOUR)
    dirty = clean.copy()
    dirty["value"] = 7.0
    dirty.loc[5, "value"] = -1.0
    dirty.loc[6, "value"] = np.inf
    dirty.loc[7, "value"] = np.nan
    dirty = dirty.drop(index=range(50, 60))
    twice = dirty.loc[[20]].assign(value=9.0)
    file = _file(tmp_path, pd.concat([dirty, twice]).sample(frac=1.0, random_state=3))
    traces = read_traces(file, seed=1)
    assert traces.notes == ("2 of 231 rows have no time or no finite value", "1 values below zero are gaps")
    grid = grid_of(traces, HOUR, 1)
    assert grid is not None
    values = grid.panel.values[0]
    assert np.flatnonzero(np.isnan(values)).tolist() == [5, 6, 7, *range(50, 60)]
    assert values[20] == 8.0


def test_irregular_stamps_are_averaged(tmp_path: Path) -> None:
    frame = _frame("a", "2024-03-04", 8, 5 * MINUTE)
    random = np.random.default_rng(1)
    frame["ts"] += pd.to_timedelta(random.integers(0, 40, len(frame)), unit="s")
    grid = grid_of(read_traces(_file(tmp_path, frame), seed=1), FINE, 1)
    assert grid is not None
    assert np.isfinite(grid.panel.values).all()


def test_many_series_are_drawn_with_a_seed(tmp_path: Path) -> None:
    file = _file(tmp_path, *(_frame(f"s{number:02}", "2024-03-04", 5, HOUR) for number in range(30)))
    drawn = [read_traces(file, seed, most=10) for seed in (1, 1, 2)]
    names = [[each.series_id for each in traces.recordings] for traces in drawn]
    assert names[0] == names[1] != names[2]
    assert len(names[0]) == 10
    assert drawn[0].notes == ("10 of 30 series, drawn with seed 1",)


def test_sums_of_one_metric_and_across_metrics(tmp_path: Path) -> None:
    many = [_frame(f"s{number:02}", "2024-03-04", 30, HOUR) for number in range(15)]
    short = _frame("short", "2024-03-30", 4, HOUR)
    grid = grid_of(read_traces(_file(tmp_path, *many, short), seed=1), HOUR, 1)
    assert grid is not None
    assert grid.shard.sum() == 12
    assert not any("across" in note for note in grid.notes)
    sums = np.nanmean(grid.panel.values[grid.shard], axis=1)
    single = np.nanmean(grid.panel.values[0])
    assert (np.round(sums / single) >= 10).all()
    assert (grid.end - grid.first)[grid.shard].min() == 30 * 24  # the short one is no part of any

    few = [_frame(f"s{n}", "2024-03-04", 30, HOUR, f"m{n}").assign(value=10.0**n) for n in range(6)]
    grid = grid_of(read_traces(_file(tmp_path, *few), seed=1), HOUR, 1)
    assert grid is not None
    assert any("across metrics" in note and "of 3 to 6 of the 6" in note for note in grid.notes)
    assert 3 <= np.nanmin(grid.panel.values[grid.shard]) <= np.nanmax(grid.panel.values[grid.shard]) <= 6


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda _: None, "there is no file"),
        (lambda file: file.write_text("series_id,ts\n"), "is no Parquet file"),
        (
            lambda file: _frame("a", "2024-03-04", 9, HOUR).drop(columns="metric").to_parquet(file),
            "no column metric",
        ),
        (
            lambda file: _frame("a", "2024-03-04", 9, HOUR).assign(value="x").to_parquet(file),
            "cannot be read",
        ),
        (lambda file: _frame("a", "2024-03-04", 9, HOUR).assign(ts=3).to_parquet(file), "cannot be read"),
        (lambda file: _frame("a", "2024-03-04", 2, HOUR).to_parquet(file), "shorter than 4 days"),
        (lambda file: _frame("a", "2024-03-04", 9, HOUR).assign(value=-1.0).to_parquet(file), "below zero"),
        (lambda file: _frame("a", "2024-03-04", 9, HOUR).head(0).to_parquet(file), "no rows"),
    ],
)
def test_what_cannot_be_read_is_one_clear_line(tmp_path: Path, make: object, says: str) -> None:
    file = tmp_path / "load.parquet"
    make(file)  # type: ignore[operator]
    with pytest.raises(InvalidInput, match=says) as caught:
        read_traces(file, seed=1)
    assert "\n" not in str(caught.value)
