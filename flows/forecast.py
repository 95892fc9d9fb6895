"""Forecasts the load of every bucket and shard. Runs hourly; `decide` follows by its event."""

from __future__ import annotations

import time

from prefect import flow

from foreshard.control.session import session
from tasks import events, forecast_artifacts, forecasting


@flow(name="forecast", persist_result=False)
def forecast() -> int:
    """Forecasts quantiles for every bucket and, under the present placement, for every shard.

    Returns the number of the forecast and emits the event `foreshard.forecast.completed`.
    """
    started = time.monotonic()
    with session() as (settings, control):
        now = settings.clock.fleet_clock().now()
        load = forecasting.read_load(control, settings, now)
        results = forecasting.fit(control, settings, load)
        record = forecasting.store(control, settings, now, load, results, time.monotonic() - started)
        events.forecast_completed(record.id, record.series)
        # A picture that cannot be drawn is a failed task, not a failed forecast.
        forecast_artifacts.show(control, settings, record, return_state=True)
        return record.id
