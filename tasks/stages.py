"""One task around one step of a migration: retries, its progress in the UI, logging."""

from __future__ import annotations

import time
from functools import partial

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, StateType
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed

from foreshard.control.engine import ControlDatabase
from foreshard.control.lease import driver_of
from foreshard.control.migration_store import MigrationStore
from foreshard.control.request_store import RESUME, RequestRecord, RequestStore
from foreshard.errors import Interrupted, InvalidInput
from foreshard.migration import chain
from foreshard.migration.lifecycle import ABORTABLE, Stage
from foreshard.migration.requests import Outcome
from foreshard.migration.runner import Runner, Step
from foreshard.settings import Settings
from tasks import preflight_artifact, runs, stream_lag
from tasks.progress_artifact import ProgressArtifact
from tasks.retries import is_transient


@task(
    name="open migration",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=1,
    retry_condition_fn=is_transient,
)
def open_migration(
    control: ControlDatabase, settings: Settings, plan_id: int | None, migration_id: int | None
) -> int:
    """The migration's number; a plan's migration is made if there is none yet, when its buckets are at its source."""
    if (plan_id is None) == (migration_id is None):
        raise InvalidInput(
            "plan_id, migration_id",
            "give exactly one of the two.",
            remedy="`foreshard plan list` lists the plans.",
        )
    if migration_id is not None:
        return MigrationStore(control).get(migration_id).id
    assert plan_id is not None
    return chain.open_when_there(control, plan_id, settings.migration.chain_timeout_s, get_run_logger().info)


def waits_elsewhere(control: ControlDatabase, migration_id: int) -> str | None:
    """Why this run must not go on: another run of the migration waits for a person. None if none does.

    Nobody is waited for any more once the migration is to be given back, or its pause is over.
    """
    migration = MigrationStore(control).get(migration_id)
    if migration.waiting_for is None or migration.flow_run_id in (None, flow_run.id):
        return None
    asked = RequestStore(control).open(migration_id)
    if (asked is not None and asked.kind.gives_back) or (asked is None and migration.waiting_for == RESUME):
        return None
    state = runs.state_of(migration.flow_run_id)
    if state is None or state.type is not StateType.PAUSED:
        return None
    return f"Migration {migration_id} waits for a person in flow run {migration.flow_run_id}: answer there."


def driven_elsewhere(control: ControlDatabase, migration_id: int) -> State[None] | None:
    """How this run ends that did not get the lease, or lost it: another run has it. None if it is not a run's.

    The state has a name of its own: a person did not cancel this run, so the janitor may start one in its place.
    """
    driver = driver_of(control, migration_id)
    if driver in (None, flow_run.id) or driver != MigrationStore(control).get(migration_id).flow_run_id:
        return None
    return Cancelled(
        name=runs.DRIVEN_ELSEWHERE,
        message=f"Migration {migration_id} is driven by flow run {driver}; this one changes nothing.",
    )


@task(name="step", cache_policy=NO_CACHE, retries=3, retry_delay_seconds=2, retry_condition_fn=is_transient)
def perform(runner: Runner, step: Step) -> State[None] | None:
    """One step of the migration. The run is named after the step; the step may be entered again.

    A step that somebody stopped is not a failed one: it ends as Interrupted.
    """
    logger = get_run_logger()
    started = time.monotonic()
    try:
        with ProgressArtifact(runner.record, step.name, partial(stream_lag.lines, runner.work)) as report:
            runner.perform(step, report)
    except Interrupted as stopped:
        logger.info("%s: %s", step.name, stopped.message)
        return Completed(name="Interrupted", message=stopped.message)
    finally:
        if step.stage is Stage.PREFLIGHT:
            preflight_artifact.show(runner.work.store, runner.record.id)
    logger.info("%s: done in %.1f s", step.name, time.monotonic() - started)
    return None


@task(
    name="give back", cache_policy=NO_CACHE, retries=3, retry_delay_seconds=2, retry_condition_fn=is_transient
)
def give_back(runner: Runner, asked: RequestRecord | None = None) -> None:
    """Abort before the cutover, reverse after it: the source owns everything, the target's copy is gone.

    Without a request: a person rejected a flip.
    """
    with ProgressArtifact(runner.record, "give back") as report:
        if asked is not None:
            runner.honour(asked, report)
        elif runner.record.stage in ABORTABLE | {Stage.ABORTING}:
            runner.abort(report)
        else:
            runner.reverse(report)


def end_state(control: ControlDatabase, migration_id: int) -> State[None] | None:
    """How Prefect shows a run that ended: cancelled if the migration was given up, else completed."""
    if MigrationStore(control).get(migration_id).stage is Stage.DONE:
        return None
    return Cancelled(message=how_it_ended(control, migration_id))


def how_it_ended(control: ControlDatabase, migration_id: int) -> str:
    """One sentence about a migration that was given up, and by whose word."""
    stage = MigrationStore(control).get(migration_id).stage
    asked = next(
        (
            one
            for one in reversed(RequestStore(control).of(migration_id))
            if one.kind.gives_back and one.outcome is Outcome.DONE
        ),
        None,
    )
    said = "" if asked is None else f" ({asked.in_words})"
    return f"Migration {migration_id} is {stage}: the source owns all its keys{said}."
