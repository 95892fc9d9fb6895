"""Forecast many series as many tasks, some hundred series each: in threads of this process, or on a Dask cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast
from uuid import UUID

import numpy as np
from prefect import get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from foreshard.forecast import forecaster
from foreshard.forecast.forecast_options import Before, ForecastOptions
from foreshard.forecast.forecast_settings import ForecastSettings
from foreshard.forecast.models.candidates import NAIVE
from foreshard.forecast.panel import Panel
from foreshard.forecast.result import ForecastResult
from foreshard.forecast.series import SeriesKey
from foreshard.forecast.training import Trained

ONLY_NAIVE = (NAIVE,)


class Chunk:
    """Some of the series, and all that is needed to forecast them: it travels to where that is done.

    No dataclass: Prefect would look for futures in each of its fields.
    """

    def __init__(
        self,
        trained: Trained,
        panel: Panel,
        options: ForecastOptions,
        before: Mapping[SeriesKey, Before],
        turn: int,
    ) -> None:
        self.trained, self.panel, self.options, self.before, self.turn = trained, panel, options, before, turn

    @property
    def name(self) -> str:
        """Its first and its last series."""
        keys = self.panel.keys
        return f"{keys[0]} .. {keys[-1]}"


@task(name="forecast chunk", cache_policy=NO_CACHE, persist_result=False, retries=1, retry_delay_seconds=1)
def forecast_chunk(chunk: Chunk) -> list[ForecastResult]:
    """Quantiles of the chunk's series. Touches no database: it may run on another machine."""
    return forecaster.forecast(chunk.trained, chunk.panel, chunk.options, chunk.before, chunk.turn)


def chunks(
    trained: Trained,
    panel: Panel,
    options: ForecastOptions,
    before: Mapping[SeriesKey, Before],
    turn: int,
    size: int,
) -> list[Chunk]:
    """The panel in parts of ``size`` series."""
    every = np.arange(len(panel.keys))
    parts = [panel.rows(every[at : at + size]) for at in range(0, len(every), size)]
    said = [{key: before[key] for key in part.keys if key in before} for part in parts]
    return [Chunk(trained, part, options, one, turn) for part, one in zip(parts, said, strict=True)]


def forecast_all(
    parts: Sequence[Chunk], settings: ForecastSettings
) -> tuple[list[ForecastResult], list[str]]:
    """The results of all chunks in their order, and what went wrong.

    A chunk that fails for good, on whatever machine, is forecast by the seasonal naive.
    """
    bar = cast(
        UUID, create_progress_artifact(progress=0.0, key="forecast-progress", description="Series forecast")
    )
    total = sum(len(part.panel.keys) for part in parts)
    results: list[ForecastResult] = []
    notes: list[str] = []
    with runner(settings) as tasks:
        futures: list[PrefectFuture[Any]] = [tasks.submit(forecast_chunk, {"chunk": part}) for part in parts]
        for part, future in zip(parts, futures, strict=True):
            try:
                results += future.result()
            except Exception as failure:  # whatever a model, a pickle or a cluster raises
                note = f"{part.name}: seasonal naive, since the task failed ({type(failure).__name__}: {failure})"
                get_run_logger().error("%s", note)
                notes.append(note)
                results += _by_the_naive(part)
            update_progress_artifact(artifact_id=bar, progress=100.0 * len(results) / total)
    return results, notes


def runner(settings: ForecastSettings) -> TaskRunner[Any]:
    """Where the chunks run. One process of a cluster of our own does one chunk at a time."""
    if settings.task_runner == "threads":
        return ThreadPoolTaskRunner(max_workers=settings.workers)
    from prefect_dask.task_runners import DaskTaskRunner  # takes a second

    if settings.dask_address is not None:
        return DaskTaskRunner(address=settings.dask_address)
    own = {"n_workers": settings.workers, "threads_per_worker": 1, "dashboard_address": None}
    return DaskTaskRunner(cluster_kwargs=own)


def _by_the_naive(part: Chunk) -> list[ForecastResult]:
    options = replace(part.options, models=ONLY_NAIVE)
    # What was said before is kept with the results: whoever was good competes again in the next run.
    results = forecaster.forecast(Trained(), part.panel, options, part.before)
    why = "seasonal naive: the task that should have compared the models failed"
    return [replace(one, note="; ".join(filter(None, [why, one.note]))) for one in results]
