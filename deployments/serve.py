"""`foreshard serve`: all flows as deployments of one small process, the embedded default.

The flows' processes inherit this one's environment: settings file, Prefect's address, failpoints of a kill test.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.runner import Runner
from prefect.types import DateTime

from deployments import automations, docs_server, metrics_server, stopped_runs
from deployments.registering import deployment
from deployments.served import Served, served
from foreshard.control.session import session
from foreshard.control.upgrade import upgrade
from foreshard.errors import ForeshardError
from foreshard.settings import load_settings
from tasks.runs import DEPLOYMENT

RUNS_AT_ONCE = 6
PREFECT_PATIENCE_S = 120.0
"""How long `serve` waits for a Prefect server that does not answer: both may have been started by the same boot."""

Say = Callable[[str], None]


def wait_for_prefect(say: Say, patience_s: float = PREFECT_PATIENCE_S) -> None:
    """Returns when the API answers; says so once when it does not, and that it waits.

    Raises ForeshardError after ``patience_s`` seconds.
    """
    with get_client(sync_client=True) as client:
        deadline, told, pause_s = time.monotonic() + patience_s, False, 0.5
        while (away := client.api_healthcheck()) is not None:
            if not told:
                say(f"Prefect at {_address(client)} does not answer yet; waiting up to {patience_s:g} s.")
                told = True
            if time.monotonic() >= deadline:
                raise ForeshardError(
                    f"Prefect at {_address(client)} did not answer within {patience_s:g} s: "
                    f"{away or type(away).__name__}.",
                    remedy="Start its server (`prefect server start`), or correct prefect.api_url.",
                )
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 5.0)


def deployments(verify_every: timedelta | None, resting: frozenset[str]) -> list[RunnerDeployment]:
    """What is served. ``resting``: names whose schedules a person has paused."""
    return [deployment(one, active=one.name not in resting) for one in served(verify_every)]


def resting(table: Iterator[Served]) -> frozenset[str]:
    """Names of deployments whose schedule somebody paused: registering them again must not wake them."""
    with get_client(sync_client=True) as client:
        return frozenset(one.name for one in table if one.schedule is not None and _rests(client, one.name))


def _rests(client: SyncPrefectClient, name: str) -> bool:
    try:
        known = client.read_deployment_by_name(f"{name}/{DEPLOYMENT}")
    except ObjectNotFound:
        return False
    return known.paused or bool(known.schedules and not any(one.active for one in known.schedules))


def drop_backlog() -> int:
    """Deletes scheduled runs that nobody was there to start; returns how many.

    After an hour's absence sixty late `collect` runs would start at once. Only runs that a schedule made are
    touched: a migration that was asked for stays.
    """
    before_now = FlowRunFilterExpectedStartTime(before_=DateTime.now("UTC"))
    scheduled = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
    ours = DeploymentFilter(name=DeploymentFilterName(any_=[DEPLOYMENT]))
    dropped = 0
    with get_client(sync_client=True) as client:
        while runs := [
            run
            for run in client.read_flow_runs(
                flow_run_filter=FlowRunFilter(state=scheduled, expected_start_time=before_now),
                deployment_filter=ours,
                limit=200,
            )
            if run.auto_scheduled
        ]:
            for run in runs:
                client.delete_flow_run(run.id)
            dropped += len(runs)
    return dropped


def use_own_scratch() -> Path:
    """A directory for temporary files of our own, for this process and the runs it starts; returns it.

    Prefect's runner keeps its files in one directory of the machine's, which belongs to whoever served first.
    """
    scratch = load_settings().state_dir.resolve() / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(scratch)
    return scratch


def serve(say: Say, query_seconds: float = 2.0, patience_s: float = PREFECT_PATIENCE_S) -> None:
    """Serves until interrupted (SIGINT, SIGTERM); the Data Docs of gate runs and metrics too.

    The automations of alerts are applied. Stopped, it ends the runs that are under way and tells Prefect that they
    crashed: the janitor of the next start goes on with their migrations.

    Raises ForeshardError if Prefect does not answer, at first or any more, or the control database.
    """
    use_own_scratch()
    with session() as (settings, control):
        wait_for_prefect(say, patience_s)
        done = upgrade(control)
        if done.changed:
            say(f"Control database: schema {done.before or 'none'} -> {done.after}.")
    every_s = settings.checks.verify_every_s
    verify_every = timedelta(seconds=every_s) if every_s else None
    quiet = resting(served(verify_every))
    drop_backlog()
    stopped_runs.free_slots()
    runner = _Serving(limit=RUNS_AT_ONCE, query_seconds=query_seconds, pause_on_shutdown=False)
    for one in deployments(verify_every, quiet):
        runner.add_deployment(one)
    if quiet:
        say(f"Paused by somebody, and left so: {', '.join(sorted(quiet))}.")
    automations.apply_on_serve(settings)
    say("Serving the flows; Ctrl-C stops.")
    with docs_server.beside(settings), metrics_server.beside(settings), _interruptible():
        try:
            asyncio.run(runner.start())
        except KeyboardInterrupt:
            say("Stopping.")
        except Exception:
            # Prefect's runner gives up after some failures, and rightly: without its server nobody can cancel a run.
            _refuse_if_away()
            raise
        finally:
            _tell(runner.under_way, say)


def _refuse_if_away() -> None:
    with get_client(sync_client=True) as client:
        if client.api_healthcheck() is not None:
            raise ForeshardError(
                f"Prefect at {_address(client)} does not answer any more: what ran was ended, "
                "migrations stand where they are.",
                remedy="Start its server, then `foreshard serve` again, or leave both to a supervisor: the janitor "
                "goes on from there.",
            ) from None


def _address(client: SyncPrefectClient) -> str:
    """As `prefect.api_url` says it."""
    return str(client.api_url).rstrip("/")


def _tell(stopped: frozenset[UUID], say: Say) -> None:
    try:
        for name in stopped_runs.tell(stopped):
            say(f"Stopped: {name}.")
    except httpx.HTTPError:  # it may have been stopped before us
        say(f"Prefect is away and could not be told that {len(stopped)} run(s) were stopped.")


class _Serving(Runner):
    """Prefect's runner, but for what it does when it is told to stop.

    On SIGTERM it would cancel what runs, and a migration whose run was cancelled is left to people.
    """

    under_way: frozenset[UUID] = frozenset()

    def handle_sigterm(self, *_: Any, **__: Any) -> None:
        """As Ctrl-C."""
        signal.raise_signal(signal.SIGINT)

    async def __aexit__(self, *error: Any) -> None:
        """Remembers what is under way, then ends it."""
        self.under_way = stopped_runs.under_way()
        await super().__aexit__(*error)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C interrupts, also in a process that a script started with &, where SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
