"""Foreshard's own events in Prefect, which deployments react to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefect.events import emit_event

FORECAST_COMPLETED = "foreshard.forecast.completed"
DECISION_COMPLETED = "foreshard.decision.completed"
VERIFICATION_FAILED = "foreshard.verification.failed"


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


def decision_completed(
    decision_id: int, forecast_run: int, plans: Sequence[int], started: Sequence[int]
) -> None:
    """Tells that a decision is stored, its plans, and which plans a run was started for."""
    emit_event(
        event=DECISION_COMPLETED,
        resource={
            "prefect.resource.id": f"foreshard.decision.{decision_id}",
            "prefect.resource.name": f"decision {decision_id}",
        },
        payload={
            "decision": decision_id,
            "forecast_run": forecast_run,
            "plans": list(plans),
            "started": list(started),
        },
    )


def verification_failed(verification_id: int, summary: Mapping[str, Any]) -> None:
    """Tells that a verification found something: for an automation that alerts somebody. Rows are named by key."""
    emit_event(
        event=VERIFICATION_FAILED,
        resource={
            "prefect.resource.id": f"foreshard.verification.{verification_id}",
            "prefect.resource.name": f"verification {verification_id}",
        },
        payload=dict(summary),
    )
