"""All that can be seen of a migration at one moment, from the control database alone: no shard is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select

from foreshard.control.approval_store import ApprovalRecord, ApprovalStore
from foreshard.control.engine import ControlDatabase
from foreshard.control.flip_store import FlipRecord, FlipStore, GateRecord
from foreshard.control.lease import driver_of
from foreshard.control.migration_models import StageRun
from foreshard.control.migration_store import MigrationRecord, MigrationStore
from foreshard.control.progress_store import KeptProgress, ProgressStore
from foreshard.control.request_store import RequestRecord, RequestStore
from foreshard.control.stream_store import Reading, StreamStore
from foreshard.migration.lifecycle import ENDS, PATH, Stage
from foreshard.quantities import duration

APPROVAL = "approval"


@dataclass(frozen=True)
class Event:
    """Something that happened. ``shown``: it stands among the facts of a migration as well."""

    at: datetime
    text: str
    shown: bool = False


@dataclass(frozen=True)
class Sight:
    """One migration. ``at``: by the control database's clock, as every time in it."""

    at: datetime
    record: MigrationRecord
    driver: str | None
    runs: Sequence[StageRun]
    progress: KeptProgress | None
    reading: tuple[datetime, Reading] | None
    flips: Sequence[FlipRecord]
    gate: GateRecord | None
    approval: ApprovalRecord | None
    requests: Sequence[RequestRecord]

    @property
    def over(self) -> bool:
        """It has ended, or failed and nobody drives it."""
        return self.record.stage in ENDS or (self.record.failure is not None and self.driver is None)

    @property
    def path(self) -> list[tuple[Stage, str]]:
        """Stages in order with ``done``, ``now`` or ``ahead``; of one that goes back, the stages it had come to."""
        stage = self.record.stage
        if stage is Stage.DONE:
            return [(one, "done") for one in PATH]
        if stage in PATH:
            here = PATH.index(stage)
            return [
                (one, "done" if number < here else "now" if number == here else "ahead")
                for number, one in enumerate(PATH)
            ]
        reached = {run.stage for run in self.runs if run.outcome == "finished"}
        way = [(one, "done") for one in PATH if one in reached]
        back = Stage.ABORTING if stage in (Stage.ABORTING, Stage.ABORTED) else Stage.REVERSING
        end = Stage.ABORTED if back is Stage.ABORTING else Stage.REVERSED
        ended = stage in ENDS
        return [*way, (back, "done" if ended else "now"), (end, "done" if ended else "ahead")]

    @property
    def waits(self) -> str:
        """What it waits for, by whom and until when; empty while it goes on by itself."""
        record, asked = self.record, self.asked
        if record.stage in ENDS:
            return ""
        if record.failure is not None and self.driver is None:
            return f"a person: it failed. {record.failure}"
        if asked is not None and asked.held_at is not None:
            since = duration((self.at - asked.held_at).total_seconds())
            return f"somebody to resume it ({asked.in_words}; held for {since})"
        if asked is not None:
            return f"a safe point ({asked.in_words})"
        if record.waiting_for == APPROVAL and self.approval is not None:
            return (
                f"approval of flip {self.approval.flip_no}, until {self.approval.expires_at:%Y-%m-%d %H:%M} UTC "
                f"(foreshard approve {record.id} --as NAME)"
            )
        if record.waiting_for is not None:
            return record.waiting_for
        return "" if self.driver else "a run: nobody drives it; the janitor starts one within a minute"

    @property
    def asked(self) -> RequestRecord | None:
        """The open request."""
        return next((one for one in self.requests if one.outcome is None), None)

    @property
    def events(self) -> list[Event]:
        """What happened, in order."""
        found = []
        for run in self.runs:
            found.append(Event(run.started_at, f"{run.name} began"))
            if run.finished_at is not None:
                took = duration((run.finished_at - run.started_at).total_seconds())
                why = f": {run.detail['error']}" if run.outcome == "failed" and "error" in run.detail else ""
                found.append(Event(run.finished_at, f"{run.name} {run.outcome} after {took}{why}"))
        for flip in self.flips:
            if flip.finished_at is not None:
                found.append(Event(flip.finished_at, flip_in_words(flip), shown=True))
        if self.gate is not None:
            found.append(Event(self.gate.made_at, gate_in_words(self.gate), shown=True))
        for asked in self.requests:
            found.append(Event(asked.asked_at, f"{asked.asked_by} asked to {asked.kind} it"))
            if asked.held_at is not None:
                found.append(Event(asked.held_at, "held"))
        return sorted(found, key=lambda one: one.at)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, the same from look to look if nothing has changed."""
        record, reading = self.record, self.reading
        return {
            "migration": record.id,
            "plan": record.plan_id,
            "source": record.source,
            "target": record.target,
            "buckets": list(record.buckets),
            "stage": record.stage.value,
            "bound": record.bound,
            "driver": self.driver,
            "failure": record.failure,
            "waits_for": record.waiting_for,
            "answer_by": None if self.approval is None else self.approval.expires_at,
            "request": None if self.asked is None else self.asked.in_words,
            "step": None if self.progress is None else self.progress.step,
            "progress": None if self.progress is None else without_parts(self.progress.document),
            "streams": None if reading is None else {"read_at": reading[0], **reading[1].__dict__},
            "canary": dict(record.facts.get("canary", {})),
            "flips": [
                {"flip": one.flip_no, "from": one.from_bound, "to": one.to_bound, "state": one.state,
                 "pause_ms": one.pause_ms}
                for one in self.flips
            ],
            "checks": None if self.gate is None else gate_in_words(self.gate),
            "last": [f"{one.at:%H:%M:%S} {one.text}" for one in self.events[-5:]],
        }  # fmt: skip


class Watcher:
    """Looks at migrations in the control database."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control
        self._store = MigrationStore(control)

    def live(self) -> list[int]:
        """Migrations that have not ended, oldest first."""
        return [record.id for record in self._store.live()]

    def look(self, migration_id: int) -> Sight:
        """One migration now.

        Raises:
            NotFound: no such migration.
        """
        record, flips = self._store.get(migration_id), FlipStore(self._control)
        runs, kept = self._store.stage_runs(migration_id), ProgressStore(self._control).of(migration_id)
        gates, newest = flips.gates(migration_id), ApprovalStore(self._control).newest(migration_id)
        with self._control.transaction() as session:
            now = session.execute(select(func.clock_timestamp())).scalar_one()
        under_way = (
            bool(runs) and runs[-1].finished_at is None and bool(kept) and kept[-1].step == runs[-1].name
        )
        return Sight(
            at=now,
            record=record,
            driver=driver_of(self._control, migration_id),
            runs=runs,
            progress=kept[-1] if under_way else None,
            reading=StreamStore(self._control).of(migration_id),
            flips=flips.flips(migration_id),
            gate=gates[-1] if gates else None,
            approval=newest if newest is not None and newest.state == "pending" else None,
            requests=RequestStore(self._control).of(migration_id),
        )


def flip_in_words(flip: FlipRecord) -> str:
    """One line."""
    waited = "finished after a crash" if flip.pause_ms is None else f"writers waited {flip.pause_ms:.1f} ms"
    what = waited if flip.state == "opened" else flip.state
    return f"flip {flip.flip_no}, {flip.from_bound} to {flip.to_bound} of 1024 slots: {what}"


def gate_in_words(gate: GateRecord) -> str:
    """One line."""
    verdict = "go" if gate.passed else f"NO, {gate.failed} failed"
    return f"checks {gate.checkpoint.replace('_', ' ')}: {verdict} ({gate.evaluated} of {gate.expected})"


def without_parts(document: Any) -> dict[str, Any]:
    """A kept progress without its list of tables."""
    return {key: value for key, value in document.items() if key != "parts"}
