"""Names and tags of runs, so that a person recognises and filters them: all runs of a migration have its tag.

A run gets them when it begins, since the form in the UI gives every run an invented name. No error here stops a run.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from zoneinfo import ZoneInfo

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext

from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_store import MigrationStore
from foreshard.control.plan_store import PlanStore
from foreshard.errors import ForeshardError
from foreshard.forecast.forecast_settings import ForecastSettings
from tasks.calendar_editing import CalendarEdit
from tasks.recovery import run_name

LONGEST = 200
"""Characters of a name."""


def rename(name: str) -> None:
    """Calls the present run so."""
    _label(name, ())


def tag(*tags: str) -> None:
    """Adds tags to the present run."""
    _label(None, tags)


def of_migration(
    control: ControlDatabase, verb: str, *, plan_id: int | None = None, migration_id: int | None = None
) -> None:
    """Name and tags of a run that moves buckets, as far as the plan or the migration is known; ``verb``: its flow."""
    tags = []
    try:
        if migration_id is not None:
            migration = MigrationStore(control).get(migration_id)
            tags = _tags(migration.source, migration.target, plan=migration.plan_id, migration=migration_id)
            name = run_name(migration.source, migration.target, len(migration.buckets))
            if verb != "migrate":  # it goes the other way
                name = f"{verb} migration {migration_id} ({migration.target} -> {migration.source})"
        elif plan_id is not None:
            plan = PlanStore(control).get(plan_id).plan
            tags = _tags(plan.source, plan.target, plan=plan_id)
            name = run_name(plan.source, plan.target, len(plan.buckets))
        else:
            return
    except ForeshardError:  # no such plan or migration, or one of another version: the run itself says so
        name = f"{verb} migration {migration_id}" if plan_id is None else f"{verb} plan {plan_id}"
    _label(name, tags)


def of_verification(migration_id: int | None, bucket: str | None) -> None:
    """Name and tags of a run of `verify`."""
    if migration_id is not None:
        _label(f"verify migration {migration_id}", [f"migration-{migration_id}"])
    else:
        _label("verify" if bucket is None else f"verify bucket {bucket}", ())


def forecast_name(now: datetime, timezone: str, settings: ForecastSettings) -> str:
    """``forecast 2026-11-23 14:00, 24 h in 60 min steps``, in the fleet's zone."""
    return (
        f"forecast {now.astimezone(ZoneInfo(timezone)):%Y-%m-%d %H:%M}, {settings.horizon_hours:g} h in "
        f"{settings.step_minutes} min steps"
    )


def decide_name(forecast_id: int, dry_run: bool) -> str:
    """``decide on forecast 12``."""
    return f"decide on forecast {forecast_id}{', dry run' if dry_run else ''}"


def collect_name(now: datetime, timezone: str) -> str:
    """``collect 14:05``, in the fleet's zone."""
    return f"collect {now.astimezone(ZoneInfo(timezone)):%H:%M}"


def calendar_name(form: CalendarEdit) -> str:
    """``calendar: add Black Friday``, ``calendar: remove event 3``."""
    called = form.name if form.number is None else f"event {form.number}"
    return f"calendar: {form.action} {called or 'an event'}"


def _tags(source: str, target: str, **numbers: int) -> list[str]:
    return [source, target, *(f"{noun}-{number}" for noun, number in numbers.items())]


def _label(name: str | None, tags: Iterable[str]) -> None:
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:  # a flow that is called as a function
        return
    run = context.flow_run
    wanted = sorted({*run.tags, *tags})
    shown = None if name is None else " ".join(name.split())[:LONGEST]
    if shown in (None, run.name) and wanted == sorted(run.tags):
        return
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run(run.id, name=shown, tags=wanted)
    except Exception as error:  # what a run is called must never stop it
        get_run_logger().warning("The run's name cannot be set: %s", error)
        return
    run.tags, run.name = wanted, shown or run.name
