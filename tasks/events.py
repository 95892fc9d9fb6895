"""Foreshard's own events in Prefect, which deployments react to."""

from __future__ import annotations

from prefect.events import emit_event

FORECAST_COMPLETED = "foreshard.forecast.completed"


def forecast_completed(run_id: int, series: int) -> None:
    """Tells that forecast ``run_id`` is stored; `decide` starts by it."""
    emit_event(
        event=FORECAST_COMPLETED,
        resource={
            "prefect.resource.id": f"foreshard.forecast.{run_id}",
            "prefect.resource.name": f"forecast {run_id}",
        },
        payload={"forecast_run": run_id, "series": series},
    )
