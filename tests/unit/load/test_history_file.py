"""Histories from files: what becomes a sample, what is a gap, and what is refused, with its place."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.errors import InvalidInput
from foreshard.load.history_file import HistoryFile, KnownFleet, Layout
from foreshard.load.history_reader import reader_of
from foreshard.load.history_summary import SeriesSummary, Summary
from foreshard.load.sample import Sample

NOW = datetime(2026, 3, 2, tzinfo=UTC)
FLEET = KnownFleet({"s1", 'it\'s "2"'}, {"b0001", "b0002"}, NOW)
HEAD = "ts,shard,bucket,metric,value\n"
T = datetime(2026, 1, 1, tzinfo=UTC)


def opened(path: Path, text: str = "", **layout: Any) -> HistoryFile:
    if text:
        path.write_text(text)
    return HistoryFile(reader_of(path.suffix[1:], path), Layout(**layout), FLEET)


def samples(file: HistoryFile) -> list[Sample]:
    return [sample for batch, _ in file.samples() for sample in batch]


def summary(file: HistoryFile) -> Summary:
    *_, (found, done) = file.check()
    assert done == 1.0
    return found


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return tmp_path / "load.csv"


def test_rows_are_samples_and_values_that_are_missing_are_gaps(csv: Path) -> None:
    file = opened(
        csv,
        HEAD + "2026-01-01T00:00:00Z,s1,,cpu_cores,1.5\n"
        "2026-01-01 01:01:00+01:00,s1,b0001,cpu_cores, 2 \n"
        '2026-01-01T00:02:00Z,"it\'s ""2""",,cpu_cores,\n'
        "2026-01-01T00:03:00.5Z,s1,,cpu_cores,NaN\n",
    )
    assert samples(file) == [
        Sample(T, "s1", None, "cpu_cores", 1.5),
        Sample(T + timedelta(minutes=1), "s1", "b0001", "cpu_cores", 2.0),
    ]
    assert summary(file).without_value == 2


@pytest.mark.parametrize(
    ("line", "column", "why"),
    [
        ("2026-01-01T00:00:00Z,s1,,cpu_cores,-1", "value", "negative"),
        ("2026-01-01T00:00:00Z,s1,,cpu_cores,inf", "value", "infinite"),
        ("2026-01-01T00:00:00Z,s1,,cpu_cores,many", "value", "'many' is not a number"),
        ('2026-01-01T00:00:00Z,s1,,cpu_cores,"1,5"', "value", "'1,5' is not a number"),
        ("2026-01-01T00:00:00Z,s2,,cpu_cores,1", "shard", "s2 is no shard"),
        ("2026-01-01T00:00:00Z,,,cpu_cores,1", "shard", "is empty"),
        ("2026-01-01T00:00:00Z,s1,b9,cpu_cores,1", "bucket", "b9 is no bucket"),
        ("2026-01-01T00:00:00Z,s1,,CPU %,1", "metric", "'CPU %'"),
        ("2026-01-01T00:00:00Z,s1,,,1", "metric", "is empty"),
        ("2026-03-02T00:00:01Z,s1,,cpu_cores,1", "ts", "in the future"),
        ("yesterday,s1,,cpu_cores,1", "ts", "'yesterday' is not a time"),
        (",s1,,cpu_cores,1", "ts", "'' is not a time"),
        ("2026-01-01T00:00:00,s1,,cpu_cores,1", "ts", "has no time zone, and others have"),
    ],
)
def test_what_cannot_be_used_is_named_by_line_and_column(csv: Path, line: str, column: str, why: str) -> None:
    good = "2026-01-01T00:00:00Z,s1,,cpu_cores,1\n"
    file = opened(
        csv, HEAD + good * 3 + "\n" + good + line + "\n" + good
    )  # a blank line is none the less a line
    with pytest.raises(InvalidInput) as refused:
        summary(file)
    assert refused.value.field == str(csv)
    assert f"line 7, column {column}: " in refused.value.message
    assert why in refused.value.message


@pytest.mark.parametrize("broken", ["2026-01-01T00:00:00Z,s1\n", "a,b,c,d,e,f\n"])
def test_a_line_with_too_few_or_too_many_fields_is_refused(csv: Path, broken: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be read as CSV"):
        summary(opened(csv, HEAD + broken))


def test_a_file_that_is_none_and_columns_that_are_not_there(csv: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is no file"):
        opened(tmp_path / "none.csv")
    with pytest.raises(InvalidInput, match="no column 'value'"):
        opened(csv, "ts,shard,metric\n")
    with pytest.raises(InvalidInput, match="two columns 'ts'"):
        opened(csv, "ts,ts,shard,metric,value\n")
    (tmp_path / "x.parquet").write_text("no parquet")
    with pytest.raises(InvalidInput, match="cannot be read as Parquet"):
        opened(tmp_path / "x.parquet")


def test_an_empty_history_is_no_error(csv: Path) -> None:
    assert samples(opened(csv, HEAD)) == []


def test_columns_may_be_named_and_each_metric_may_have_one(csv: Path) -> None:
    text = "when;vm;cpu;mem\n2026-01-01 00:00:00;b0001;1;2\n"
    csv.write_text(text)
    layout = Layout(
        ts_column="when",
        shard="s1",
        bucket_column="vm",
        values={"cpu": "cpu_cores", "mem": "memory_bytes"},
        timezone="UTC",
    )
    file = HistoryFile(reader_of("csv", csv, ";"), layout, FLEET)
    assert samples(file) == [
        Sample(T, "s1", "b0001", "cpu_cores", 1.0),
        Sample(T, "s1", "b0001", "memory_bytes", 2.0),
    ]


def test_metrics_may_be_renamed_and_left_out(csv: Path) -> None:
    rows = "2026-01-01T00:00:00Z,s1,,cpu avg,1\n2026-01-01T00:00:00Z,s1,,cpu max,nonsense\n".replace(
        "nonsense", "7"
    )
    file = opened(csv, HEAD + rows, rename={"cpu avg": "cpu_cores", "cpu max": ""})
    assert [(one.metric, one.value) for one in samples(file)] == [("cpu_cores", 1.0)]


NAIVE = HEAD + "2025-10-26 02:30:00,s1,,cpu_cores,1\n"  # twice in Paris
NEVER = HEAD + "2025-03-30 02:30:00,s1,,cpu_cores,1\n"  # not once


def test_times_without_a_zone_want_one(csv: Path) -> None:
    with pytest.raises(InvalidInput, match="--timezone"):
        summary(opened(csv, NAIVE))
    with pytest.raises(InvalidInput, match="--timezone: 'CET/Paris'"):
        opened(csv, NAIVE, timezone="CET/Paris")


@pytest.mark.parametrize("text", [NAIVE, NEVER])
def test_times_at_which_the_clock_was_changed_are_refused(csv: Path, text: str) -> None:
    with pytest.raises(InvalidInput, match=r"line 2, column ts: .* comes twice, or never, in Europe/Paris"):
        summary(opened(csv, text, timezone="Europe/Paris"))


@pytest.mark.parametrize(("choice", "hour"), [("earlier", 0), ("later", 1)])
def test_or_chosen(csv: Path, choice: str, hour: int) -> None:
    [one] = samples(opened(csv, NAIVE, timezone="Europe/Paris", clock_change=choice))
    assert one.ts == datetime(2025, 10, 26, hour, 30, tzinfo=UTC)


def test_times_of_beginnings_are_made_ends(csv: Path) -> None:
    hour = timedelta(hours=1)
    text = HEAD + "2026-01-01T00:00:00Z,s1,,cpu_cores,1\n"
    assert [one.ts for one in samples(opened(csv, text, ts_shift=hour))] == [T + hour]
    text += "2026-03-01T23:30:00Z,s1,,cpu_cores,1\n"  # its hour is not over yet
    with pytest.raises(InvalidInput, match=r"line 3, column ts: .* in the future"):
        summary(opened(csv, text, ts_shift=hour))


@pytest.mark.parametrize("name", ["load.parquet", "load.csv.gz"])
def test_parquet_and_compressed_files_hold_the_same(tmp_path: Path, name: str) -> None:
    frame = pd.DataFrame(
        {
            "series_id": ["b0001", "b0002"],
            "ts": pd.to_datetime(["2026-01-01 00:00", "2026-01-01 00:05"]),
            "metric": "cpu_pct",
            "value": pd.Series([1.5, float("nan")], dtype="float32"),
        }
    )
    path = tmp_path / name
    if name.endswith("parquet"):
        frame.to_parquet(path)
    else:
        path.write_bytes(gzip.compress(frame.to_csv(index=False).encode()))
    layout = Layout(shard="s1", bucket_column="series_id", rename={"cpu_pct": "cpu_cores"}, timezone="UTC")
    file = HistoryFile(reader_of("parquet" if name.endswith("parquet") else "csv", path), layout, FLEET)
    assert samples(file) == [Sample(T, "s1", "b0001", "cpu_cores", 1.5)]


def test_a_parquet_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "load.parquet"
    values = [1.0] * 70_000
    values[69_998] = -2.0
    pd.DataFrame({"ts": [T] * 70_000, "shard": "s1", "metric": "cpu_cores", "value": values}).to_parquet(path)
    with pytest.raises(InvalidInput, match=r"row 69999, column value: -2\.0 is negative"):
        summary(opened(path))


def test_what_a_file_holds_is_told_by_series(csv: Path) -> None:
    minutes = [0, 1, 2, 3, 9, 10]
    rows = "".join(f"2026-01-01T00:{m:02}:00Z,s1,,cpu_cores,1\n" for m in minutes)
    assert list(summary(opened(csv, HEAD + rows)).series()) == [
        SeriesSummary("s1", None, "cpu_cores", 6, T, T + timedelta(minutes=10), timedelta(minutes=1), 1)
    ]


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 10**6)), min_size=1, max_size=60, unique=True),
    st.integers(1, 9),
)
def test_a_summary_does_not_depend_on_batches(rows: list[tuple[str, int]], size: int) -> None:
    rows = sorted(rows, key=lambda row: row[1])
    frame = pd.DataFrame(
        {
            "us": [us for _, us in rows],
            "shard": [name for name, _ in rows],
            "bucket": "",
            "metric": "cpu_cores",
            "value": 1.0,
        }
    )
    whole, parted = Summary(), Summary()
    whole.add(frame)
    for begin in range(0, len(frame), size):
        parted.add(frame.iloc[begin : begin + size])
    assert [one.__dict__ | {"step": None, "gaps": 0} for one in whole.series()] == [
        one.__dict__ | {"step": None, "gaps": 0} for one in parted.series()
    ]
    assert sum(one.samples for one in whole.series()) == len(rows)
