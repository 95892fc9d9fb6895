"""Drives one migration: which step comes next, one step at a time, under a lease that a heartbeat keeps.

A runner may die anywhere. The next one takes the lease, settles an interrupted flip, and repeats the step that was
under way: every step asks the shards what is there already.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self

from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_store import MigrationRecord, MigrationStore
from foreshard.control.progress_store import ProgressStore
from foreshard.control.rate_store import RateStore
from foreshard.control.request_store import RESUME, RequestRecord, RequestStore, interrupted
from foreshard.control.stream_store import StreamStore
from foreshard.errors import (
    FailedOver,
    ForeshardError,
    IllegalTransition,
    Interrupted,
    LeaseLost,
    OrchestratorUnavailable,
    OutOfHeadroom,
    ShardUnavailable,
    StreamBroken,
)
from foreshard.migration import approval_policy, confirmation, fingerprint, retreat
from foreshard.migration.flip import finish_interrupted
from foreshard.migration.holding import Hearing
from foreshard.migration.lifecycle import ABORTABLE, ENDS, REVERSIBLE, Stage, following
from foreshard.migration.measured import measured
from foreshard.migration.progress import Report
from foreshard.migration.progress_keeper import ProgressKeeper
from foreshard.migration.requests import GOING_BACK, INTERRUPTIBLE, Ask
from foreshard.migration.stages import (
    backfill,
    catch_up,
    cutover,
    finalise,
    preflight,
    prepare,
    read_shadow,
    soak,
    verify,
    write_redirect,
)
from foreshard.migration.work import Work
from foreshard.pgbouncer import handover
from foreshard.settings import Settings
from foreshard.topology.keys import SLOTS

logger = logging.getLogger(__name__)

CHECKPOINTS = {
    Stage.PREPARE: "before_copy",  # the last moment at which the target must hold nothing
    Stage.CUTOVER: "before_cutover",
    Stage.FINALISE: "after_cutover",
}
"""The set of checks that must have passed before a stage."""

_RUN: Mapping[Stage, Callable[[Work, Report], dict[str, Any]]] = {
    Stage.PREFLIGHT: preflight.run,
    Stage.PREPARE: prepare.run,
    Stage.BACKFILL: backfill.run,
    Stage.CATCH_UP: catch_up.run,
    Stage.VERIFY: verify.run,
    Stage.READ_SHADOW: read_shadow.run,
    Stage.CUTOVER: cutover.run,
    Stage.SOAK: soak.run,
    Stage.FINALISE: finalise.run,
    Stage.ABORTING: retreat.run,
    Stage.REVERSING: retreat.run,
}


@dataclass(frozen=True)
class Step:
    """What comes next. ``checkpoint`` names checks to run and store first; ``approval``: a person's word too."""

    name: str
    stage: Stage
    checkpoint: str | None
    approval: bool
    flip_no: int
    """The flip that checks and approval are bound to: the next one, or for finalise the last."""
    percent: float | None = None


class Runner:
    """The holder of a migration's lease. Use as a context manager; a second runner gets `LeaseLost`."""

    def __init__(
        self,
        control: ControlDatabase,
        settings: Settings,
        migration_id: int,
        holder: str,
        flow_run_id: str | None = None,
    ) -> None:
        self._control = control
        self._settings = settings
        self._store = MigrationStore(control)
        self._requests = RequestStore(control)
        self._migration_id = migration_id
        self._holder = holder
        self._flow_run_id = flow_run_id
        self._stop = threading.Event()
        self._lost: ForeshardError | None = None
        self._waiting_for: str | None = None

    def __enter__(self) -> Self:
        seconds = self._settings.migration.lease_s
        lease = self._store.acquire(self._migration_id, self._holder, self._flow_run_id, seconds)
        self.work = Work(self._control, self._settings, lease)
        self._heart = threading.Thread(target=self._beat, name="foreshard-lease", daemon=True)
        self._heart.start()
        try:
            if self.record.stage not in ENDS:
                try:
                    self._settle()
                finally:
                    handover.settle(self.work)  # whatever is wrong, nobody's clients wait for it
        except BaseException:
            self._let_go(None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, trace
        self._let_go(error)

    @property
    def record(self) -> MigrationRecord:
        """The migration as it stands now."""
        return self.work.record

    def next_step(self) -> Step | None:
        """The next step, or None when the migration has ended."""
        record = self.record
        if record.stage in ENDS:
            return None
        if record.stage is Stage.WRITE_REDIRECT:
            remaining = self._canary_steps()[record.step :]
            if remaining:
                return self._step(f"write_redirect {remaining[0]:g} %", record.stage, remaining[0])
            self._store.go_to(self.work.lease, Stage.CUTOVER)
            return self.next_step()
        return self._step(record.stage.value, record.stage, None)

    def perform(self, step: Step, report: Report) -> None:
        """Do one step and go on to the next stage.

        A step that runs out of headroom aborts the migration, where that is possible still.

        Raises:
            LeaseLost: another runner took over; stop at once.
            Interrupted: somebody asked to hold the migration, or to give it back: see `honour`.
            ForeshardError: the step failed; it may be performed again.
        """
        if self._lost is not None:
            raise self._lost
        if step.stage not in GOING_BACK and (asked := self.asked()) is not None:
            raise interrupted(asked)
        self._perform(step, report)

    def _perform(self, step: Step, report: Report) -> None:
        record = self.record
        if record.stage is not step.stage:
            raise IllegalTransition(
                f"Migration {record.id} is in {record.stage}, not in {step.stage}.",
                remedy="Ask for the next step.",
            )
        fingerprint.refuse_change(self.work)
        journal = self._store.begin(self.work.lease, step.stage, step.name)
        try:
            run = _RUN.get(step.stage) or partial(_canary, step)
            deaf = step.stage not in INTERRUPTIBLE
            with (
                Hearing(self._requests, record.id, report, deaf=deaf) as heard,
                ProgressKeeper(
                    ProgressStore(self._control), self.work.lease, step.name, heard, self._keep_streams
                ) as kept,
            ):
                detail = run(self.work, kept)
        except LeaseLost:
            raise
        except Interrupted as stopped:
            self._store.end(self.work.lease, journal, "interrupted", stopped.details)
            raise
        except BaseException as error:
            self._store.end(self.work.lease, journal, "failed", _describe(error))
            if isinstance(error, OutOfHeadroom) and step.stage in ABORTABLE:
                logger.warning("migration %s is given up: %s", record.id, error)
                self.abort(report)
                return
            raise
        self._store.end(self.work.lease, journal, "finished", detail)
        self._learn(step.stage, detail)
        if step.stage is Stage.WRITE_REDIRECT:
            self._store.finish_step(self.work.lease, record.step + 1)
        else:
            self._finish(step.stage)

    def abort(self, report: Report) -> None:
        """Give up before the cutover: the source owns everything again, the target's copy is gone.

        Raises:
            IllegalTransition: it is too late to abort (reverse) or to go back at all.
        """
        self._retreat(Stage.ABORTING, ABORTABLE, report)

    def reverse(self, report: Report) -> None:
        """Give up after the cutover, without losing a write; see `abort`."""
        self._retreat(Stage.REVERSING, REVERSIBLE, report)

    def asked(self) -> RequestRecord | None:
        """What somebody asked of the migration and is not settled yet. Nothing else may be done before."""
        return self._requests.open(self._migration_id)

    @property
    def is_held(self) -> bool:
        """Whether a pause was honoured: leave the runner, nobody goes on."""
        return self._waiting_for == RESUME

    def honour(self, asked: RequestRecord, report: Report) -> None:
        """Do what was asked. After a pause leave the runner: nobody goes on until it is resumed.

        A request to abort that the cutover overtook is carried out as a reversal: whoever asked wants it undone. One
        that can never be carried out is settled as refused.

        Raises:
            StreamBroken, FailedOver, IllegalTransition: the way back is not open.
            ForeshardError: what stood in the way; the request stays open and may be honoured again.
        """
        if asked.kind is Ask.PAUSE:
            if self._requests.hold(self.work.lease, asked.id):
                self.suspend(RESUME)
            return
        record = self.record
        cut_over = record.stage in (Stage.SOAK, Stage.REVERSING) or (
            record.stage is Stage.CUTOVER and record.bound == SLOTS
        )
        try:
            (self.reverse if cut_over else self.abort)(report)
        except (StreamBroken, FailedOver, IllegalTransition) as refused:
            if self.record.stage not in GOING_BACK:
                self._requests.refuse(self.work.lease, asked.id, refused.message)
            raise

    def suspend(self, waiting_for: str) -> None:
        """On leaving, note what the migration waits for: the janitor leaves it alone until it is resumed."""
        self._waiting_for = waiting_for

    # -- inside -----------------------------------------------------------------------------------------

    def _keep_streams(self) -> None:
        if self.work.reading is not None:
            StreamStore(self._control).keep(self._migration_id, self.work.reading)

    def _settle(self) -> None:
        try:
            finish_interrupted(self.work)
        except (ShardUnavailable, FailedOver) as away:
            # A shard that knows nothing of the migration: while no key was moved, abort is the way out.
            if isinstance(away, FailedOver) and (self.record.bound or self.record.stage not in ABORTABLE):
                raise
            # Abort and finalise can do with one shard. Every other step asks again, and fails by itself.
            logger.warning("migration %s is not settled: %s", self._migration_id, away)

    def _step(self, name: str, stage: Stage, percent: float | None) -> Step:
        wanted = SLOTS if stage is Stage.CUTOVER else 0
        if percent is not None:
            share = write_redirect.chosen(self.work, percent)
            # Before it has chosen its bound a canary step takes one slot at least.
            wanted = self.record.bound + 1 if share is None else share.bound
        # A flip that a runner died in was finished on entering: nothing is left of it to check or to approve.
        flips = self.record.bound < wanted
        cutover = stage is Stage.CUTOVER
        guarded = flips and approval_policy.guarded(self.work.approval, cutover=cutover)
        approval = guarded and approval_policy.asking_for(self.work, cutover=cutover).wanted
        flip_no = (
            self.record.flip_no
            if stage is Stage.FINALISE
            else self.work.flips.next_number(self._migration_id)
        )
        checkpoint = None if cutover and not flips else CHECKPOINTS.get(stage)
        if guarded:
            checkpoint = CHECKPOINTS[Stage.CUTOVER]
        return Step(name, stage, checkpoint, approval, flip_no, percent)

    def _canary_steps(self) -> tuple[float, ...]:
        """None where two owners of one bucket could break a constraint between them: then one flip, 0 -> all."""
        if self.work.facts().get("canary_obstacles"):
            return ()
        return self._settings.migration.canary_percent

    def _retreat(self, stage: Stage, allowed_from: frozenset[Stage], report: Report) -> None:
        present = self.record.stage
        if present is not stage:
            if present not in allowed_from:
                hint = "Reverse it." if present in REVERSIBLE else "There is no way back from here."
                raise IllegalTransition(
                    f"Migration {self._migration_id} in {present} cannot go to {stage}.", remedy=hint
                )
            retreat.validate(self.work)  # nothing follows a retreat but its end; refused here, it can go on
            self._store.go_to(self.work.lease, stage)
        step = self.next_step()
        if step is not None:
            self._perform(step, report)

    def _learn(self, stage: Stage, detail: Mapping[str, Any]) -> None:
        """Keep the rates of a stage that one attempt did whole. Without them a stage is finished all the same."""
        try:
            attempts = [run for run in self._store.stage_runs(self._migration_id) if run.stage == stage]
            if len(attempts) == 1:
                found = measured(stage, detail, self.work.facts().get("bytes"))
                RateStore(self._control).learn(self.work.lease, found)
        except Exception as problem:  # a lost lease is found by the write that follows
            logger.warning("rates of migration %s not kept: %s", self._migration_id, problem)

    def _finish(self, stage: Stage) -> None:
        after = following(stage)
        if after in ENDS:
            # Before the end: once a migration has ended, nobody may hold its lease to write this.
            self._store.confirm(self.work.lease, confirmation.document(self.work, after))
        self._store.go_to(self.work.lease, after)

    def _beat(self) -> None:
        seconds = self._settings.migration.lease_s
        while not self._stop.wait(seconds / 3):
            try:
                self._store.renew(self.work.lease, seconds)
            except LeaseLost as lost:
                self._lost = lost
                return
            except Exception as error:  # the control database is away for a moment: try again
                logger.warning("lease of migration %s not renewed: %s", self._migration_id, error)

    def _let_go(self, error: BaseException | None) -> None:
        self._stop.set()
        self._heart.join()
        if self._lost is not None:
            return
        # What is no failure of the migration's is not left to people: it is abandoned, and the janitor goes on.
        failed = isinstance(error, Exception) and not isinstance(error, OrchestratorUnavailable)
        failure = _describe(error)["error"] if error is not None and failed else None
        try:
            self._store.release(self.work.lease, waiting_for=self._waiting_for, failure=failure)
        except LeaseLost:
            logger.info("migration %s was taken over", self._migration_id)


def _canary(step: Step, work: Work, report: Report) -> dict[str, Any]:
    if step.percent is None:
        raise IllegalTransition(f"Step {step.name} says no share.")
    return write_redirect.run(work, step.percent, report)


def _describe(error: BaseException) -> dict[str, Any]:
    details = error.details if isinstance(error, ForeshardError) else {}
    return {"error": f"{type(error).__name__}: {error}", **details}
