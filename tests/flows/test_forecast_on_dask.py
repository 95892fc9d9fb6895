"""The forecast flow on a real Dask scheduler with two worker processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import LocalCluster

from flows.forecast import forecast
from foreshard.clock import FleetClock
from foreshard.control.engine import ControlDatabase
from foreshard.control.forecast_store import ForecastStore
from foreshard.forecast.result import ForecastResult
from foreshard.forecast.series import SeriesKey
from tasks import forecast_chunks
from tasks.forecast_chunks import Chunk
from tests.flows.forecast_load import put_load

pytestmark = pytest.mark.slow

Results = dict[SeriesKey, ForecastResult]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Two processes, one thread each, on free ports of this machine."""
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "scheduler_port": 0}
    with LocalCluster(processes=True, host="127.0.0.1", **options) as running:
        yield running


class BadChunk(Chunk):
    """It cannot be forecast in another process than the one that made it."""

    def __init__(self, part: Chunk) -> None:
        super().__init__(part.trained, part.panel, part.options, part.before, part.turn)
        self.home = os.getpid()

    def on_worker(self) -> None:
        raise ArithmeticError("of the test")

    def __getattribute__(self, name: str) -> Any:
        if name == "turn" and os.getpid() != self.home:
            self.on_worker()
        return super().__getattribute__(name)


class AwaitedChunk(BadChunk):
    """The first process that begins it says so in a file, and waits for its end."""

    def __init__(self, part: Chunk, begun: Path) -> None:
        super().__init__(part)
        self.begun = begun

    def on_worker(self) -> None:
        if not self.begun.exists():
            partial = self.begun.with_suffix(".partial")
            partial.write_text(str(os.getpid()))
            partial.rename(self.begun)
            time.sleep(600)


def change_first_chunk(monkeypatch: pytest.MonkeyPatch, changed: Callable[[Chunk], Chunk]) -> None:
    real = forecast_chunks.chunks

    def made(*given: Any) -> Sequence[Chunk]:
        first, *others = real(*given)
        return [changed(first), *others]

    monkeypatch.setattr(forecast_chunks, "chunks", made)


def kill_whoever_begins(begun: Path) -> None:
    """Kill the process, from outside, that says in this file that it has begun."""
    until = time.monotonic() + 300
    while not begun.exists() and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(int(begun.read_text()), signal.SIGKILL)


def newest(control: ControlDatabase) -> tuple[Results, tuple[str, ...]]:
    record = ForecastStore(control).newest()
    assert record is not None
    return ForecastStore(control).results(record.id), record.notes


def assert_same(here: Results, there: Results) -> None:
    assert here.keys() == there.keys()
    for key, one in here.items():
        assert (one.model, one.note) == (there[key].model, there[key].note)
        np.testing.assert_allclose(one.band.quantiles, there[key].band.quantiles, rtol=1e-5)


@pytest.fixture
def by_threads(control: ControlDatabase, monkeypatch: pytest.MonkeyPatch) -> Results:
    """What threads make of it; then Dask is told to do the same."""
    put_load(control, monkeypatch)
    now = FleetClock().now()
    monkeypatch.setattr(FleetClock, "now", lambda _: now)
    monkeypatch.setattr(ForecastStore, "before", lambda *_: {})  # each run as if it were the first
    forecast()
    results, notes = newest(control)
    assert notes == ()
    monkeypatch.setenv("FORESHARD_FORECAST__TASK_RUNNER", "dask")
    return results


def test_a_chunk_that_fails_on_its_worker_is_forecast_by_the_naive(
    cluster: LocalCluster, control: ControlDatabase, by_threads: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORESHARD_FORECAST__DASK_ADDRESS", cluster.scheduler_address)
    change_first_chunk(monkeypatch, BadChunk)
    forecast()
    results, notes = newest(control)
    assert len(notes) == 1
    assert "ArithmeticError: of the test" in notes[0]
    fallen = {key for key, one in results.items() if "the task that should have compared" in one.note}
    assert sorted(map(str, fallen)) == ["b0000/queries_per_s", "b0001/queries_per_s"]
    assert all(results[key].model == "seasonal_naive" for key in fallen)
    assert_same(*({key: one[key] for key in one if key not in fallen} for one in (results, by_threads)))


def test_dask_gives_what_threads_give_also_when_a_worker_is_killed(
    cluster: LocalCluster,
    control: ControlDatabase,
    by_threads: Results,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("FORESHARD_FORECAST__DASK_ADDRESS", cluster.scheduler_address)
    begun = tmp_path / "begun"
    change_first_chunk(monkeypatch, lambda part: AwaitedChunk(part, begun))
    with ThreadPoolExecutor(1) as killer:
        killed = killer.submit(kill_whoever_begins, begun)
        forecast()
        killed.result()
    results, notes = newest(control)
    assert notes == ()
    assert_same(results, by_threads)


def test_a_cluster_of_its_own(
    control: ControlDatabase, by_threads: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORESHARD_FORECAST__WORKERS", "1")
    forecast()
    results, notes = newest(control)
    assert notes == ()
    assert_same(results, by_threads)
