"""Recorded loads as traces."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from foreshard.errors import InvalidInput
from foreshard.load.trace_file import read_trace


def written(folder: Path, series: int = 6, days: float = 9, minutes: int = 60, metrics: int = 1) -> Path:
    stamps = pd.date_range("2024-01-01", periods=int(days * 1440 / minutes), freq=f"{minutes}min")
    rows = [
        pd.DataFrame(
            {
                "series_id": f"vm{number}",
                "ts": stamps,
                "metric": f"cpu{number % metrics}",
                "value": number + np.sin(np.arange(len(stamps))) + 1.0,
            }
        )
        for number in range(series)
    ]
    file = folder / "vms.parquet"
    pd.concat(rows).to_parquet(file)
    return file


def test_a_series_is_a_bucket(tmp_path: Path) -> None:
    read = read_trace(written(tmp_path))
    trace = read.trace
    assert trace.names == tuple(f"b{number:04}" for number in range(6))
    assert trace.metrics == ("cpu0",)
    assert trace.step == timedelta(hours=1)
    assert trace.steps == 9 * 24
    assert trace.starts_at.isoformat() == "2024-01-01T00:00:00+00:00"
    np.testing.assert_allclose(trace.load[3, 0], 4.0 + np.sin(np.arange(trace.steps)))
    assert not read.notes


def test_csv_says_the_same(tmp_path: Path) -> None:
    file = written(tmp_path)
    csv = tmp_path / "vms.csv"
    pd.read_parquet(file).to_csv(csv, index=False)
    np.testing.assert_allclose(read_trace(csv).trace.load, read_trace(file).trace.load)


def test_more_buckets_than_series(tmp_path: Path) -> None:
    file = written(tmp_path, metrics=2)
    first, again = (read_trace(file, buckets=15, seed=3) for _ in range(2))
    assert len(first.trace.names) == 15
    np.testing.assert_array_equal(first.trace.load, again.trace.load)
    assert len({tuple(row[0]) for row in first.trace.load}) == 15
    assert any("other days" in note for note in first.notes)
    assert any("divided by its mean" in note for note in first.notes)


def test_gaps_are_filled_and_said(tmp_path: Path) -> None:
    file = written(tmp_path)
    frame = pd.read_parquet(file)
    frame[frame["ts"].dt.hour != 5].to_parquet(file)
    read = read_trace(file)
    assert read.trace.steps == 9 * 24
    assert any("gaps" in note for note in read.notes)


def test_what_cannot_be_replayed(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no file"):
        read_trace(tmp_path / "none.parquet")
    with pytest.raises(InvalidInput, match="no metric memory"):
        read_trace(written(tmp_path), metric="memory")
    with pytest.raises(InvalidInput, match="6 days"):
        read_trace(written(tmp_path, days=3))
    bad = tmp_path / "bad.parquet"
    pd.DataFrame({"series_id": ["a"], "value": [1.0]}).to_parquet(bad)
    with pytest.raises(InvalidInput, match="no column metric, ts"):
        read_trace(bad)
