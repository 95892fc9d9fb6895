"""The forecast flow on a real Dask scheduler with two worker processes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import LocalCluster

from flows.forecast import forecast
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


class DeadlyChunk(Chunk):
    """A process of the cluster that begins it dies: each one, or with ``once`` the first, which leaves that file."""

    def __init__(self, part: Chunk, once: Path | None) -> None:
        super().__init__(part.trained, part.panel, part.options, part.before, part.turn)
        self.once, self.home = once, os.getpid()

    def __getattribute__(self, name: str) -> Any:
        if name == "turn" and os.getpid() != self.home and not (self.once and self.once.exists()):
            if self.once:
                self.once.touch()
            os._exit(1)
        return super().__getattribute__(name)


def deadly_first_chunk(monkeypatch: pytest.MonkeyPatch, once: Path | None = None) -> None:
    real = forecast_chunks.chunks

    def made(*given: Any) -> Sequence[Chunk]:
        first, *others = real(*given)
        return [DeadlyChunk(first, once), *others]

    monkeypatch.setattr(forecast_chunks, "chunks", made)


def newest(control: ControlDatabase) -> tuple[Results, tuple[str, ...]]:
    record = ForecastStore(control).newest()
    assert record is not None
    return ForecastStore(control).results(record.id), record.notes


def assert_same(here: Results, there: Results) -> None:
    assert here.keys() == there.keys()
    for key, one in here.items():
        assert (one.model, one.note) == (there[key].model, there[key].note)
        np.testing.assert_allclose(one.band.quantiles, there[key].band.quantiles, rtol=1e-5)


def test_dask_gives_what_threads_give_whoever_dies(
    cluster: LocalCluster, control: ControlDatabase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put_load(control, monkeypatch)
    monkeypatch.setattr(ForecastStore, "before", lambda *_: {})  # each run as if it were the first
    forecast()
    by_threads, notes = newest(control)
    assert notes == ()

    monkeypatch.setenv("FORESHARD_FORECAST__TASK_RUNNER", "dask")
    monkeypatch.setenv("FORESHARD_FORECAST__DASK_ADDRESS", cluster.scheduler_address)
    died = tmp_path / "died"
    with monkeypatch.context() as once:
        deadly_first_chunk(once, died)
        forecast()
    by_dask, notes = newest(control)
    assert died.exists()
    assert notes == ()
    assert_same(by_dask, by_threads)

    with monkeypatch.context() as always:
        deadly_first_chunk(always)
        forecast()
    half, notes = newest(control)
    assert len(notes) == 1
    assert "KilledWorker" in notes[0]
    fallen = [key for key, one in half.items() if "the task that should have compared" in one.note]
    assert sorted(str(key) for key in fallen) == ["b0000/queries_per_s", "b0001/queries_per_s"]
    assert all(half[key].model == "seasonal_naive" for key in fallen)
    assert_same(
        *({key: one for key, one in every.items() if key not in fallen} for every in (half, by_threads))
    )


def test_a_cluster_of_its_own(control: ControlDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    put_load(control, monkeypatch)
    monkeypatch.setenv("FORESHARD_FORECAST__TASK_RUNNER", "dask")
    monkeypatch.setenv("FORESHARD_FORECAST__WORKERS", "1")
    forecast()
    results, notes = newest(control)
    assert (len(results), notes) == (6, ())
