"""Forecasts the load of every bucket and shard. Runs hourly; `decide` follows by its event."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Annotated

from prefect import flow
from pydantic import Field

from foreshard.control.forecast_store import ForecastStore
from foreshard.control.session import session
from foreshard.forecast.forecast_settings import ModelName, StepMinutes
from tasks import events, forecast_artifacts, forecast_chunks, forecast_series_artifact, forecasting

HOUR = timedelta(hours=1)


@flow(name="forecast", persist_result=False)
def forecast(
    horizon_hours: Annotated[float, Field(gt=0)] | None = None,
    step_minutes: StepMinutes | None = None,
    metrics: list[str] | None = None,
    models: list[ModelName] | None = None,
) -> int:
    """Forecasts quantiles for every bucket and, under the present placement, for every shard.

    Returns the number of the forecast and emits the event `foreshard.forecast.completed`. A run with other parameters
    than the settings' is there to be looked at: `decide` takes the newest of the settings' step, at least as far
    ahead, of all metrics.

    Args:
        horizon_hours: How far ahead, in hours; 0.25 is a quarter of one. Empty: as in the settings.
        step_minutes: Length of a step; the horizon is a whole number of them. Empty: as in the settings.
        metrics: Only these, e.g. cpu_cores. Empty: all; only then can the run be decided on.
        models: Those that compete. Empty: as in the settings.
    """
    started = time.monotonic()
    with session() as (settings, control):
        wanted = forecasting.wanted(
            settings,
            horizon_hours=horizon_hours,
            step_minutes=step_minutes,
            metrics=metrics,
            models=models,
        )
        now = settings.clock.fleet_clock().now()
        known = forecasting.read_load(control, settings, wanted, now)
        trained = forecasting.train(control, wanted, known)
        parts = forecast_chunks.chunks(
            trained,
            known.panel,
            wanted.options(len(known.panel.keys)),
            ForecastStore(control).before(wanted.step),
            int(now.timestamp() // HOUR.total_seconds()),  # every hour other challengers are fitted anew
            wanted.settings.chunk_series,
        )
        results, failed = forecast_chunks.forecast_all(parts, wanted.settings)
        done = forecasting.Forecasts(known, results, [*trained.notes, *failed])
        record = forecasting.store(control, wanted, now, trained, done, time.monotonic() - started)
        events.forecast_completed(record.id, record.series)
        # A picture that cannot be drawn is a failed task, not a failed forecast.
        forecast_series_artifact.show(record, done, return_state=True)
        forecast_artifacts.show(control, settings, record, done, return_state=True)
        return record.id
