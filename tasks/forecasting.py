"""Forecast the fleet: read the series, fit, store."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import cast
from uuid import UUID
from zoneinfo import ZoneInfo

from prefect import get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE

from foreshard.control.calendar_store import CalendarStore
from foreshard.control.engine import ControlDatabase
from foreshard.control.fleet_view import ForecastInput, forecast_input
from foreshard.control.forecast_store import ForecastRecord, ForecastStore
from foreshard.forecast.forecaster import forecast_many
from foreshard.forecast.result import ForecastResult
from foreshard.settings import Settings
from tasks.retries import is_transient

SEED = 20131127
BETWEEN_UPDATES_S = 2.0


@task(
    name="read load", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=2, retry_condition_fn=is_transient
)
def read_load(control: ControlDatabase, settings: Settings, now: datetime) -> ForecastInput:
    """Every bucket's activity, and every shard's metrics rebuilt under the present placement."""
    found = forecast_input(control, now, timedelta(days=settings.forecast.history_days))
    get_run_logger().info(
        "%d series from %s to %s, %d live samples",
        len(found.series),
        found.since,
        found.starts_at,
        found.live_samples,
    )
    return found


@task(name="fit and predict", cache_policy=NO_CACHE)
def fit(control: ControlDatabase, settings: Settings, load: ForecastInput) -> list[ForecastResult]:
    """Quantiles of every series up to the horizon, in `forecast.workers` threads."""
    bar = cast(
        UUID, create_progress_artifact(progress=0.0, key="forecast-progress", description="Series forecast")
    )
    shown = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal shown
        if time.monotonic() - shown > BETWEEN_UPDATES_S or done == total:
            shown = time.monotonic()
            update_progress_artifact(artifact_id=bar, progress=100.0 * done / total)

    timezone = ZoneInfo(settings.clock.timezone)
    horizon = timedelta(hours=settings.forecast.horizon_hours)
    return forecast_many(
        list(load.series),
        load.starts_at,
        settings.forecast.horizon_hours * 60 // settings.forecast.step_minutes,
        CalendarStore(control).events(timezone, load.since, load.starts_at + horizon),
        timezone,
        SEED,
        workers=settings.forecast.workers,
        progress=progress,
    )


@task(
    name="store forecast",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=2,
    retry_condition_fn=is_transient,
)
def store(
    control: ControlDatabase,
    settings: Settings,
    now: datetime,
    load: ForecastInput,
    results: list[ForecastResult],
    seconds: float,
) -> ForecastRecord:
    """The run and the band of every series."""
    return ForecastStore(control).save(
        now,
        results,
        horizon_hours=settings.forecast.horizon_hours,
        live_samples_used=load.live_samples,
        seconds=seconds,
    )
