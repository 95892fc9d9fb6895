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
from tasks import (
    events,
    forecast_artifacts,
    forecast_chunks,
    forecast_series_artifact,
    forecasting,
    run_labels,
)
from tasks.form_fields import Choice, Help

HOUR = timedelta(hours=1)
LONGEST_HOURS = 24 * 14
SETTINGS = "as in the settings"

Metric = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]


@flow(name="forecast", persist_result=False)
def forecast(
    horizon_hours: Annotated[
        Annotated[float, Field(gt=0, le=LONGEST_HOURS, allow_inf_nan=False)] | None,
        Choice("hours", SETTINGS),
        Help(
            "How far ahead, in hours: a whole number of steps, at most 336, and 24 in steps below an hour."
            " 0.25 is a quarter of an hour."
        ),
    ] = None,
    step_minutes: Annotated[
        StepMinutes | None, Choice("minutes", SETTINGS), Help("Length of a step, in minutes.")
    ] = None,
    metrics: Annotated[
        list[Metric] | None,
        Choice("some", "all"),
        Help("Only these, e.g. cpu_cores. Only a run of all can be decided on."),
    ] = None,
    models: Annotated[
        list[ModelName] | None,
        Choice("some", SETTINGS),
        Help("Those that compete for each series."),
    ] = None,
) -> int:
    """Forecasts the load of every bucket and shard, and shows which shard will pass its capacity, and when.

    Runs by itself every hour; no field has to be filled in. It learns from the stored history, forecasts quantiles of
    every bucket, adds them up to the shards' under the present placement, and returns the forecast's number. The
    artifact `forecast` has the table, `forecast-SHARD-METRIC` a picture of each shard that comes near its capacity.
    Then `decide` starts by itself.

    A run with other parameters than the settings' is there to be looked at: `decide` takes the newest of the settings'
    step, at least as far ahead, of all metrics.
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
        run_labels.rename(run_labels.forecast_name(now, settings.clock.timezone, wanted.settings))
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
