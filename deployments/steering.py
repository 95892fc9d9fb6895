"""What a word from the shell means to a migration's run. Our rows have it already: without Prefect it is only later."""

from __future__ import annotations

from collections.abc import Callable

from foreshard.control.engine import ControlDatabase
from foreshard.control.lease import driver_of
from foreshard.control.migration_store import MigrationStore
from foreshard.settings import Settings


def go_on(
    settings: Settings, control: ControlDatabase, migration_id: int, resumed_by: str
) -> tuple[bool, str]:
    """Lets a resumed migration's run go on, or starts one; whether Prefect knows, and which run, or why not."""

    def tell() -> str:
        from tasks import holding, recovery, runs

        record = MigrationStore(control).get(migration_id)
        if driver_of(control, migration_id) is not None:
            return "its run goes on"
        if not runs.is_over(record.flow_run_id) and holding.wake(record, resumed_by):
            return f"flow run {record.flow_run_id} goes on"
        if not runs.is_over(record.flow_run_id):
            return f"flow run {record.flow_run_id} is on its way, or waits for an approval"
        name = recovery.run_name(record.source, record.target, len(record.buckets))
        key = f"migration-{record.id}-resumed-{record.attempts}"
        return f"flow run {runs.start('migrate', {'migration_id': record.id}, key, name)} goes on"

    return _told(settings, tell)


def cancel_waiting(settings: Settings, flow_run_id: str, message: str) -> str:
    """Says Cancelled of a run that waits for a person although its migration has ended; the outcome in words."""

    def tell() -> str:
        from tasks import runs

        return "the run that waited is cancelled" if runs.cancel_waiting(flow_run_id, message) else ""

    return _told(settings, tell)[1]


def _told(settings: Settings, tell: Callable[[], str]) -> tuple[bool, str]:
    from deployments import prefect_client

    try:
        prefect_client.use(settings)
        return True, tell()
    except Exception as away:  # httpx, Prefect's own, a missing setting: the janitor goes by our rows
        reason = str(away).strip().splitlines()[0] if str(away).strip() else type(away).__name__
        text = (
            f"Prefect could not be told ({reason}); the janitor goes by the control database when it is back"
        )
        return False, text
