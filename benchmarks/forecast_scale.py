"""What an hour's forecasts of a whole fleet take: `python -m benchmarks.forecast_scale SERIES SEED`, a process each.

Made-up loads: daily and weekly curves of every size and phase, noise, bursts, growth, some buckets empty, some young.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.forecast_walk import cpu
from foreshard.forecast.panel import HOUR, Panel
from foreshard.forecast.result import ForecastResult
from foreshard.forecast.series import SeriesKey

STEPS = 1008
HORIZON = 24
CHUNK = 250
"""Series that are forecast at a time: bounds memory, as the flow does."""
WORKERS = 2
PARTS = (0.25, 0.5, 1.0)
"""Of the whole size, to see whether cost is linear."""


def scale(series: int, seed: int, tell: Callable[[str], None]) -> dict[str, object]:
    """Figures ``scale.<series>.<figure>`` of a quarter, half and all of ``series``."""
    found: dict[str, object] = {}
    for part in PARTS:
        size = max(1, int(series * part))
        tell(f"{size} series of {STEPS} hours")
        command = [sys.executable, "-m", "benchmarks.forecast_scale", str(size), str(seed)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{size} series failed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
        found |= {
            f"scale.{size}.{name}": value for name, value in json.loads(done.stdout.splitlines()[-1]).items()
        }
    return found


def made_up(series: int, seed: int) -> Panel:
    """``series`` buckets x ``STEPS`` hours."""
    random = np.random.default_rng(seed)
    hour = np.arange(STEPS, dtype=np.float32)
    size = random.lognormal(3.0, 1.5, (series, 1)).astype(np.float32)
    daily, weekly = random.uniform(0.0, 0.9, (series, 1)), random.uniform(0.0, 0.3, (series, 1))
    phase = random.uniform(0, 24, (series, 1))
    curve = (
        1
        + daily * np.sin(2 * np.pi * (hour + phase) / 24)
        + weekly * np.sin(2 * np.pi * (hour + phase) / 168)
    )
    noise = random.gamma(20.0, 1 / 20.0, (series, STEPS))
    bursts = 1 + (random.random((series, STEPS)) < 0.002) * random.uniform(1, 10, (series, STEPS))
    growth = 1 + random.uniform(-0.2, 0.5, (series, 1)) * hour / STEPS
    values = (size * np.maximum(curve, 0.02) * noise * bursts * growth).astype(np.float32)
    values[random.random(series) < 0.02] = 0.0
    young = np.flatnonzero(random.random(series) < 0.05)
    for row, born in zip(young, random.integers(STEPS // 2, STEPS, len(young)), strict=True):
        values[row, :born] = np.nan
    keys = tuple(SeriesKey(None, f"b{number:05}", "queries_per_s") for number in range(series))
    return Panel(keys, values, datetime(2026, 3, 2, tzinfo=UTC), HOUR)


def _one_hour(series: int, seed: int) -> dict[str, object]:
    """Train once, forecast chunk by chunk, two at a time, as the flow does."""
    from foreshard.forecast.forecast_options import Before, ForecastOptions, origins_for, turns_for
    from foreshard.forecast.forecaster import forecast
    from foreshard.forecast.training import train

    panel = made_up(series, seed)
    base = _memory()
    options = ForecastOptions(
        horizon=HORIZON, seed=seed, turns=turns_for(series), origins=origins_for(series)
    )
    began, spent = time.monotonic(), cpu()
    trained = train(panel, options)
    trained_s, trained_cpu = time.monotonic() - began, cpu() - spent

    # As in an hour after many: exponential smoothing is near the best everywhere, Prophet is tried in turn.
    scores = {"seasonal_naive": 1.0, "lightgbm": 0.8, "lightgbm_direct": 0.8, "ets": 0.9, "prophet": 1.2}
    said = {key: Before("combination", scores) for key in panel.keys}

    def some(start: int) -> list[ForecastResult]:
        return forecast(trained, panel.rows(np.arange(start, min(start + CHUNK, series))), options, said)

    with ThreadPoolExecutor(WORKERS) as pool:
        results = sum(len(each) for each in pool.map(some, range(0, series, CHUNK)))
    if results != series:
        raise RuntimeError(f"{results} forecasts of {series} series")
    return {
        "wall_s": round(time.monotonic() - began, 1),
        "cpu_s": round(cpu() - spent, 1),
        "train_wall_s": round(trained_s, 1),
        "train_cpu_s": round(trained_cpu, 1),
        "cpu_ms_per_series": round(1000 * (cpu() - spent) / series, 2),
        "peak_mb": round(_memory()),
        "panel_mb": round(base),
    }


def _memory() -> float:
    """Most memory that this process has had so far, in MB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    print(json.dumps(_one_hour(int(sys.argv[1]), int(sys.argv[2]))))
