"""What a person does with a migration from the command line: a runner in this process, under the lease as any other."""

from __future__ import annotations

import os
import socket
from typing import Any

from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_store import MigrationStore
from foreshard.control.request_store import RequestRecord
from foreshard.migration.lifecycle import ENDS, Stage
from foreshard.migration.progress import Report
from foreshard.migration.runner import Runner
from foreshard.migration.stages.finalise import end_way_back
from foreshard.settings import Settings


def give_back(
    control: ControlDatabase, settings: Settings, asked: RequestRecord, report: Report
) -> dict[str, Any]:
    """Carry out a request to abort or to reverse, when no run drives the migration.

    A target that does not answer is left out if it owns nothing. Returns what the last step found, as journalled.

    Raises:
        LeaseLost: a run drives it: that one honours the request.
        StreamBroken, FailedOver: the way back is not open; the request is settled as refused.
        ForeshardError: see `foreshard.migration.retreat`; the request stands.
    """
    with _runner(control, settings, asked.migration) as runner:
        if runner.record.stage not in ENDS:
            runner.honour(asked, report)
    return _last_detail(control, asked.migration)


def finalise(
    control: ControlDatabase,
    settings: Settings,
    migration_id: int,
    said_by: str,
    report: Report,
    *,
    without_source: bool,
    despite_differences: bool = False,
) -> dict[str, Any]:
    """End a migration that has no way back any more, by a person's word; see `stages.finalise.end_way_back`.

    Returns what the last step found.

    Raises:
        NotFound: no such migration.
        LeaseLost: a run drives it: pause it first.
        Interrupted: it is paused, or somebody asked to reverse it.
        ForeshardError: see `foreshard.migration.stages.finalise`.
    """
    MigrationStore(control).get(migration_id)
    with _runner(control, settings, migration_id) as runner:
        end_way_back(
            runner.work, said_by, without_source=without_source, despite_differences=despite_differences
        )
        step = runner.next_step()
        assert step is not None  # a word is taken in soak and finalise only
        assert step.stage is Stage.FINALISE
        runner.perform(step, report)
    return _last_detail(control, migration_id)


def _runner(control: ControlDatabase, settings: Settings, migration_id: int) -> Runner:
    return Runner(control, settings, migration_id, f"command line, {socket.gethostname()} {os.getpid()}")


def _last_detail(control: ControlDatabase, migration_id: int) -> dict[str, Any]:
    store = MigrationStore(control)
    runs = store.stage_runs(migration_id)
    return {"stage": store.get(migration_id).stage.value, **(runs[-1].detail if runs else {})}
