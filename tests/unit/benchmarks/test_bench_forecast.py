"""The forecast benchmark from end to end, and that what comes after an origin changes nothing of what is said at it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.bench_forecast import main
from benchmarks.forecast_alarms import alarms
from benchmarks.forecast_champion import champion
from benchmarks.forecast_measurement import CHAMPION, HORIZONS
from benchmarks.forecast_panels import Grid, grid_of
from benchmarks.forecast_traces import read_traces
from benchmarks.forecast_walk import Contestant, Walk, percentile, walk, yesterday
from foreshard.forecast.band import QUANTILES, Floats
from foreshard.forecast.history import History
from foreshard.forecast.panel import HOUR, Panel

FIGURES = (
    "rel_mase",
    "rel_wql",
    "not_worse_share",
    "coverage90",
    "series_in_band_share",
    "brier",
    "precision_at_recall80",
    "fit_cpu_s",
    "predict_cpu_s",
    "series",
)


def _load(file: Path, series: int, days: float, sampling: timedelta) -> Path:
    random = np.random.default_rng(7)
    ts = pd.date_range("2024-03-04", periods=int(timedelta(days=days) / sampling), freq=sampling)
    daily = 1 + 0.5 * np.sin(2 * np.pi * (ts.hour.to_numpy() + ts.minute.to_numpy() / 60) / 24)
    frames = [
        pd.DataFrame(
            {
                "series_id": f"s{number}",
                "ts": ts,
                "metric": "rps",
                "value": ((10 + number) * daily * random.gamma(50, 1 / 50, len(ts))).astype(np.float32),
            }
        )
        for number in range(series)
    ]
    pd.concat(frames).to_parquet(file)
    return file


def test_the_whole_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = _load(tmp_path / "made.up.parquet", 12, 8, timedelta(minutes=5))
    out = tmp_path / "forecast.json"
    assert main(["--traces", str(file), "--models", "seasonal_naive", "--quick", "--json", str(out)]) == 0
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["about"]["seed"] == 1
    for group in ("bucket", "shard"):
        for horizon in HORIZONS:
            for model in ("seasonal_naive", CHAMPION):
                for figure in FIGURES:
                    value = found[f"made.up.{group}.{horizon}.{model}.{figure}"]
                    assert value is None or np.isfinite(value)
    assert found["made.up.bucket.h24.seasonal_naive.series"] == 12
    assert found["made.up.bucket.h24.seasonal_naive.rel_mase"] == pytest.approx(1.0, abs=0.01)
    assert 0.6 < found["made.up.bucket.h24.seasonal_naive.coverage90"] <= 1.0
    assert found["made.up.bucket.h24.seasonal_naive.rel_wql_to_band"] == 1.0
    assert "seasonal_naive" in capsys.readouterr().out


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = _load(tmp_path / "a.parquet", 2, 5, HOUR)
    for arguments in (
        ["--traces", str(tmp_path / "none.parquet")],
        ["--traces", str(file), "--models", "oracle"],
        ["--traces", str(file), str(file)],
        ["--traces", str(file), "--every-hours", "0"],
        ["--traces", str(file), "--json", str(tmp_path / "nowhere" / "a.json")],
    ):
        assert main(arguments) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


class _Recent:
    """Quantiles of the last two days, and a trap: what it was taught is part of what it says."""

    name = "recent"

    def fit(self, panel: Panel, horizon: int, seed: int) -> _FittedRecent:
        del horizon, seed
        return _FittedRecent(float(np.nansum(panel.values)))


@dataclass(frozen=True)
class _FittedRecent:
    taught: float

    @property
    def refused(self) -> dict[object, str]:
        return {}

    def predict(self, panel: Panel, horizon: int) -> Floats:
        recent = np.nan_to_num(panel.last(48).values.astype(float))
        quantiles = np.quantile(recent, QUANTILES, axis=1).T + 1e-6 * self.taught
        return np.repeat(quantiles[:, None], horizon, axis=1)


class _Lazy(_Recent):
    name = "seasonal_naive"

    def fit(self, panel: Panel, horizon: int, seed: int) -> _FittedRecent:
        del panel, horizon, seed
        return _FittedRecent(0.0)


def _as_it_is(panel: Panel) -> Panel:
    return panel


def _walk(grid: Grid) -> Walk:
    models = {"recent": Contestant(_Recent()), "seasonal_naive": Contestant(_Lazy(), local=True)}  # type: ignore[arg-type]
    return walk(grid, models, 24, 12, 1, _as_it_is, lambda _: None)


@pytest.mark.parametrize("poison", [np.nan, 1e9])
def test_a_poisoned_future_changes_nothing(tmp_path: Path, poison: float) -> None:
    grid = grid_of(read_traces(_load(tmp_path / "a.parquet", 5, 16, HOUR), 1), HOUR, 1)
    assert grid is not None
    clean = _walk(grid)
    turn = len(clean.origins) * 3 // 4
    assert clean.judged[turn].all()
    values = grid.panel.values.copy()
    values[:, clean.origins[turn] :] = poison
    poisoned = _walk(replace(grid, history=History(grid.panel.with_values(values))))
    until = slice(0, turn + 1)
    for name in clean.predictions:
        assert np.isfinite(clean.predictions[name][turn]).all()
        np.testing.assert_array_equal(clean.predictions[name][until], poisoned.predictions[name][until])
    np.testing.assert_array_equal(clean.reference[until], poisoned.reference[until])
    np.testing.assert_array_equal(clean.threshold[until], poisoned.threshold[until])
    best, best_poisoned = (champion(of, [*clean.predictions], [24], _as_it_is) for of in (clean, poisoned))
    np.testing.assert_array_equal(best.quantiles[until], best_poisoned.quantiles[until])
    np.testing.assert_array_equal(best.alarms[24][until], best_poisoned.alarms[24][until])
    warned, warned_poisoned = (alarms(of, of.predictions, [24], _as_it_is) for of in (clean, poisoned))
    np.testing.assert_array_equal(warned["recent", 24][until], warned_poisoned["recent", 24][until])
    for said in (best.quantiles, best.alarms[24], warned["recent", 24]):
        assert np.isfinite(said[turn]).all()
    assert not np.array_equal(clean.truth[until], poisoned.truth[until], equal_nan=True)


def test_yesterday_is_the_same_time_a_day_before_and_reaches_over_gaps(tmp_path: Path) -> None:
    grid = grid_of(read_traces(_load(tmp_path / "a.parquet", 1, 6, HOUR), 1), HOUR, 1)
    assert grid is not None
    values = np.arange(grid.panel.steps, dtype=np.float32)[None].copy()
    values[0, 73] = np.nan
    panel = grid.panel.rows(np.asarray([0])).with_values(values).until(96)
    assert yesterday(panel, 26)[0].tolist() == [72, 49, *range(74, 96), 72, 49]


def test_percentile_is_numpys() -> None:
    values = np.random.default_rng(2).random((4, 50)).astype(np.float32)
    values[1, 7:30] = np.nan
    values[2] = np.nan
    np.testing.assert_allclose(
        percentile(values, 0.95)[[0, 1, 3]], np.nanquantile(values[[0, 1, 3]], 0.95, axis=1)
    )
    assert np.isnan(percentile(values, 0.95)[2])
