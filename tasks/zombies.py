"""Runs that Prefect calls running for ever: whoever served them was killed, and nobody told the server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import FlowRun

from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_store import MigrationRecord, MigrationStore
from foreshard.migration.lifecycle import ENDS
from tasks import runs, steering

HOUR, DAY = timedelta(hours=1), timedelta(days=1)

LONGEST = {
    "collect": HOUR,
    "decide": HOUR,
    "calendar-edit": HOUR,
    "pause": HOUR,
    "janitor": HOUR,
    "forecast": DAY,
    "verify": DAY,
}
"""Nobody drives anything in these runs; one of so long is dead. A flow's own limits are far below."""

LEAVES_WITHIN = timedelta(seconds=steering.STEP_ASIDE_S) + timedelta(minutes=5)
"""A run that lost its migration to another, waits to take it over, or whose migration has ended, is gone by then."""


@task(name="mark dead runs", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=2)
def mark_dead(control: ControlDatabase) -> list[str]:
    """Says CRASHED of runs that cannot be alive any more; returns their ids. Never of one that waits for a person.

    The run that a migration was last driven by is `recovery.restart`'s; that of a plan without a migration is
    `due_plans.start_dead_again`'s.
    """
    migrations = MigrationStore(control).all()
    dead = []
    for flow, run in runs.at_work():
        why = _why_dead(flow, run, migrations)
        if why is not None and runs.mark_crashed(str(run.id), why):
            get_run_logger().warning("Run %s of %s: %s", run.name, flow, why)
            dead.append(str(run.id))
    return dead


def _why_dead(flow: str, run: FlowRun, migrations: list[MigrationRecord]) -> str | None:
    assert run.state is not None
    since = datetime.now(UTC) - run.state.timestamp
    if flow in LONGEST:
        return f"No {flow} takes so long: the process is gone." if since >= LONGEST[flow] else None
    number, plan = run.parameters.get("migration_id"), run.parameters.get("plan_id")
    record = next((one for one in migrations if one.id == number or one.plan_id == plan), None)
    if record is None or since < LEAVES_WITHIN:
        return None
    if record.stage in ENDS:
        assert record.finished_at is not None
        over = datetime.now(UTC) - record.finished_at >= LEAVES_WITHIN
        return f"Migration {record.id} has ended as {record.stage}: the process is gone." if over else None
    if record.flow_run_id == str(run.id):
        return None
    return f"Another run drives migration {record.id}: the process is gone."
