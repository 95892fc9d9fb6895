"""Foreshard's own events in Prefect, which deployments react to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from prefect.client.orchestration import get_client
from prefect.events import Event, RelatedResource, Resource, emit_event
from prefect.utilities.urls import url_for

from foreshard.alerts.alert import AlertKind
from foreshard.control.alert_store import AlertRecord

FORECAST_COMPLETED = "foreshard.forecast.completed"
DECISION_COMPLETED = "foreshard.decision.completed"
VERIFICATION_FAILED = "foreshard.verification.failed"


def alert_began(kind: AlertKind) -> str:
    """The event of an alert's onset."""
    return f"foreshard.alert.began.{kind}"


def alert_ended(kind: AlertKind) -> str:
    """The event that it is over."""
    return f"foreshard.alert.ended.{kind}"


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


def alert(record: AlertRecord, over: bool) -> None:
    """Tells the server of an alert's onset, or its end, and waits for its word: raises if it did not take the event.

    `emit_event` only queues. The event's id is the alert's: told twice, it is the same event.
    """
    told, name = record.document, alert_ended if over else alert_began
    run = told.get("flow_run_id")
    related = [] if run is None else [f"prefect.flow-run.{run}"]
    event = Event(
        id=uuid5(NAMESPACE_URL, f"foreshard/alert/{record.id}/{record.began_at.isoformat()}/{over}"),
        event=name(record.kind),
        resource=Resource(
            {
                "prefect.resource.id": f"foreshard.alert.{record.key}",
                "prefect.resource.name": str(told["subject"]),
            }
        ),
        related=[
            RelatedResource({"prefect.resource.id": one, "prefect.resource.role": "flow-run"})
            for one in related
        ],
        payload={
            "title": told["title"],
            "state": "over" if over else "began",
            "subject": told["subject"],
            "text": "It is over." if over else told["text"],
            "remedy": "" if over else told["remedy"],
            "began_at": f"{record.began_at:%Y-%m-%d %H:%M} UTC",
            "run_url": (None if run is None else url_for("flow-run", obj_id=run)) or "",
            "migration": told.get("migration"),
            "shard": told.get("shard"),
        },
    )
    with get_client(sync_client=True) as client:
        client.request("POST", "/events", json=[event.model_dump(mode="json")]).raise_for_status()
