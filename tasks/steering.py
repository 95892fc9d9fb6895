"""Taking a migration over from whoever drives it, and holding it: the flows `reverse` and `pause`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from uuid import UUID

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.states import Cancelled

from foreshard.control.engine import ControlDatabase
from foreshard.control.lease import driver_of
from foreshard.control.migration_store import MigrationStore
from foreshard.control.request_store import RequestRecord, RequestStore
from foreshard.errors import ForeshardError, LeaseLost
from foreshard.migration.lifecycle import ENDS
from foreshard.migration.requests import Ask, Ruling, Way
from foreshard.migration.runner import Runner
from foreshard.settings import Settings
from tasks import runs

STEP_ASIDE_S = 600.0
"""The longest wait for a run that must finish what it is at: a flip with slow routers, the checks before one."""

HELD_WITHIN_S = 600.0
TELL_EVERY_S = 5.0
LOOK_S = 0.5
STOPS_WITHIN_S = 15.0
"""A run that has let go of its migration ends by itself within this time."""


@task(name="ask", cache_policy=NO_CACHE)
def ask(control: ControlDatabase, migration_id: int, kind: Ask, who: str, why: str) -> RequestRecord:
    """Stores what a person asks; an earlier request that means the same stands in its place."""
    carrier = flow_run.id if kind.gives_back else None
    asked, ruling = RequestStore(control).ask(migration_id, kind, who, why, Way.UI, carrier=carrier)
    if ruling is Ruling.SAME:
        get_run_logger().info("Asked already: %s.", asked.in_words)
    return asked


@dataclass(frozen=True)
class Taken:
    """A migration that this run drives now. ``previous``: the run that did before."""

    runner: Runner
    previous: str | None


@contextmanager
def taken_over(control: ControlDatabase, settings: Settings, asked: RequestRecord) -> Iterator[Taken | None]:
    """The migration as soon as nobody else drives it; None if it has ended by then.

    Raises:
        ForeshardError: it was still driven after ten minutes (the request stands); or whoever drove it found that the
            request cannot be carried out.
    """
    taken: Taken | None = None
    with ExitStack() as stack:
        while taken is None and not ended(control, asked.migration):
            _await_free(control, asked)
            previous = MigrationStore(control).get(asked.migration).flow_run_id
            with suppress(LeaseLost):  # another run was faster; it may honour the same request
                runner = stack.enter_context(
                    Runner(control, settings, asked.migration, flow_run.id, flow_run.id)
                )
                taken = Taken(runner, previous)
        if ended(control, asked.migration):
            yield None
            return
        now = RequestStore(control).get(asked.id)
        if now.outcome is not None:
            raise ForeshardError(
                f"Migration {asked.migration}: {now.kind} was {now.outcome} ({now.settlement})."
            )
        yield taken


def _await_free(control: ControlDatabase, asked: RequestRecord) -> None:
    logger, store = get_run_logger(), MigrationStore(control)
    began = told = time.monotonic()
    while (driver := driver_of(control, asked.migration)) is not None:
        waited = time.monotonic() - began
        if waited > STEP_ASIDE_S:
            raise ForeshardError(
                f"Migration {asked.migration} is still driven by {driver} after {waited:.0f} s.",
                remedy="The request stands: that run honours it at its next safe point, or the one after it.",
            )
        if time.monotonic() - told >= TELL_EVERY_S:
            told = time.monotonic()
            logger.info(
                "Waiting for %s to step aside at %s: %.0f of at most %.0f s.",
                driver, store.get(asked.migration).stage, waited, STEP_ASIDE_S,
            )  # fmt: skip
        time.sleep(LOOK_S)


def carried_elsewhere(asked: RequestRecord) -> bool:
    """Whether another run, which is alive, carries this request out."""
    if asked.carrier is None or asked.carrier == flow_run.id:
        return False
    try:
        return not runs.is_over(asked.carrier)
    except Exception as away:  # Prefect cannot be asked: what a person wants is done here, then
        get_run_logger().warning("Flow run %s cannot be looked up: %s", asked.carrier, away)
        return False


def end_other_run(previous: str | None, asked: RequestRecord) -> None:
    """Says Cancelled of the run that drove the migration before, or waits for a person, and names this one."""
    if previous is None or previous == flow_run.id:
        return
    ours = f"{flow_run.id} ({flow_run.name})"
    message = f"Migration {asked.migration} is given back by flow run {ours}: {asked.in_words}."
    deadline = time.monotonic() + STOPS_WITHIN_S
    with get_client(sync_client=True) as client:
        while True:
            try:
                state = client.read_flow_run(UUID(previous)).state
            except ObjectNotFound:
                return
            if state is not None and state.is_final():
                return
            waits = state is not None and state.type is StateType.PAUSED
            if waits or time.monotonic() > deadline:  # no process that would end by itself
                client.set_flow_run_state(UUID(previous), Cancelled(message=message), force=True)
                get_run_logger().info("Run %s is cancelled: it must not go on.", previous)
                return
            time.sleep(LOOK_S)


def stepped_aside(asked: RequestRecord) -> str:
    """What a run says that leaves its migration to the one that gives it back."""
    return f"Migration {asked.migration} is given back by flow run {asked.carrier}: {asked.in_words}."


@task(name="wait until it holds", cache_policy=NO_CACHE)
def await_held(control: ControlDatabase, asked: RequestRecord) -> RequestRecord:
    """The pause as soon as the migration stands still for it, or it is settled otherwise.

    Raises:
        ForeshardError: the migration did not come to a safe point within ten minutes. The request stands.
    """
    logger, store, requests = get_run_logger(), MigrationStore(control), RequestStore(control)
    began = told = time.monotonic()
    while True:
        now = requests.get(asked.id)
        if now.held_at is not None or now.outcome is not None:
            return now
        waited = time.monotonic() - began
        if waited > HELD_WITHIN_S:
            raise ForeshardError(
                f"Migration {asked.migration} has not come to a safe point within {waited:.0f} s.",
                remedy="The request stands; `foreshard watch` shows what it is at.",
            )
        if time.monotonic() - told >= TELL_EVERY_S:
            told = time.monotonic()
            logger.info(
                "It goes on with %s to a safe point: %.0f s.", store.get(asked.migration).stage, waited
            )
        time.sleep(LOOK_S)


def ended(control: ControlDatabase, migration_id: int) -> bool:
    """Whether the migration has ended."""
    return MigrationStore(control).get(migration_id).stage in ENDS


def held_in_words(control: ControlDatabase, asked: RequestRecord) -> str:
    """Where it is held, and where the Resume button is."""
    record = MigrationStore(control).get(asked.migration)
    run = f" of flow run {record.flow_run_id}" if record.flow_run_id else ""
    return f"Migration {record.id} is paused at {record.stage} ({asked.in_words}). Resume{run} goes on."
