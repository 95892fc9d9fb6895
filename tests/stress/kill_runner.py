"""The process that drives a migration in the kill matrix: it stops at every point until it is told to go on.

It is forked from a server that has imported everything, so that a new runner is there in some milliseconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_store import MigrationStore
from foreshard.errors import LeaseLost
from foreshard.migration.lifecycle import ENDS, Stage
from foreshard.migration.runner import Runner
from foreshard.settings import ControlSettings, MigrationSettings, Settings
from tests.integration.moving_fleet import allow, ignore
from tests.stress.recorded_steps import Point, StepRecorder

LEASE_PATIENCE_S = 20.0


class Errand(StrEnum):
    """Where the runner wants to go."""

    FORWARD = "forward"
    ABORT = "abort"
    REVERSE = "reverse"


@dataclass(frozen=True)
class Job:
    """What a runner is told. ``until``: it stops before performing that stage; None: at the migration's end."""

    control_dsn: str
    state_dir: Path
    migration: int
    settings: MigrationSettings
    errand: Errand
    until: Stage | None = None


@dataclass(frozen=True)
class Ended:
    """The runner's last word; ``error`` None if it went where it wanted."""

    error: str | None


def drive(link: Connection, job: Job) -> None:
    """Send each point, wait for the word to go on; at last send `Ended`."""

    def reach(point: Point) -> None:
        link.send(point)
        link.recv()

    try:
        with pytest.MonkeyPatch.context() as patch:
            _run(job, reach, patch)
    except Exception as error:
        link.send(Ended(f"{type(error).__name__}: {error}"))
    else:
        link.send(Ended(None))


def _run(job: Job, reach: Callable[[Point], None], patch: pytest.MonkeyPatch) -> None:
    control = ControlDatabase(job.control_dsn)
    settings = Settings(
        control=ControlSettings(dsn=job.control_dsn), migration=job.settings, state_dir=job.state_dir
    )
    patience = time.monotonic() + LEASE_PATIENCE_S
    recorder = StepRecorder(MigrationStore(control).get(job.migration).stage, reach)
    recorder.install(patch)
    while True:
        try:
            with Runner(control, settings, job.migration, "matrix") as runner:
                recorder.entered()
                _go(runner, job)
            return
        except LeaseLost:  # the lease of the one that was killed has not ended yet
            if time.monotonic() > patience:
                raise
        time.sleep(0.05)


def _go(runner: Runner, job: Job) -> None:
    if runner.record.stage in ENDS:
        return
    if job.errand is Errand.ABORT:
        runner.abort(ignore)
    elif job.errand is Errand.REVERSE:
        runner.reverse(ignore)
    else:
        while (step := runner.next_step()) is not None and step.stage is not job.until:
            allow(runner, step)
            runner.perform(step, ignore)
