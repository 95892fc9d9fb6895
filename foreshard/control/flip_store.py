"""Flips and gates: what stands in the control database before, between and after two servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from foreshard.control.engine import ControlDatabase
from foreshard.control.lease import Lease, locked_migration
from foreshard.control.migration_models import Flip, GateRun, Migration
from foreshard.errors import ForeshardError, GateRefused


@dataclass(frozen=True)
class FlipRecord:
    """One flip of a migration. States: intended, opened, cancelled."""

    migration: int
    flip_no: int
    from_bound: int
    to_bound: int
    state: str
    attempts: int
    pause_ms: float | None
    intended_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True)
class GateRecord:
    """The stored verdict of one gate."""

    id: int
    checkpoint: str
    flip_no: int
    passed: bool
    evaluated: int
    expected: int
    failed: int
    evidence_sha256: str
    verdict: Mapping[str, Any]
    made_at: datetime


class FlipStore:
    """Reads and writes flips and gate runs."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control

    def intend(self, lease: Lease, from_bound: int, to_bound: int) -> FlipRecord:
        """The flip to work on: one that an earlier runner left unfinished, else a new one with the next number.

        Raises:
            ForeshardError: an unfinished flip wants another bound; it has to be ended first.
        """
        with self._control.transaction() as session:
            row = locked_migration(session, lease)
            open_flip = session.scalar(
                select(Flip).where(Flip.migration_id == row.id, Flip.state == "intended")
            )
            if open_flip is not None:
                if open_flip.to_bound != to_bound:
                    raise ForeshardError(
                        f"Flip {open_flip.flip_no} to bound {open_flip.to_bound} is not finished.",
                        remedy="Finish or cancel it before another flip.",
                    )
                return _flip(open_flip)
            return _next(session, row, from_bound, to_bound)

    def replace(self, lease: Lease, flip: FlipRecord, from_bound: int, to_bound: int) -> FlipRecord:
        """Cancel ``flip`` and intend another one at once: no runner dies in between and leaves keys without a flip."""
        with self._control.transaction() as session:
            row = locked_migration(session, lease)
            session.execute(
                update(Flip)
                .where(Flip.migration_id == row.id, Flip.flip_no == flip.flip_no)
                .values(state="cancelled", finished_at=func.clock_timestamp())
            )
            return _next(session, row, from_bound, to_bound)

    def next_number(self, migration_id: int) -> int:
        """The number that the next new flip will get; gates and approvals are bound to it."""
        unfinished = self.unfinished(migration_id)
        if unfinished is not None:
            return unfinished.flip_no
        with self._control.transaction() as session:
            last = session.scalar(select(func.max(Flip.flip_no)).where(Flip.migration_id == migration_id))
            return (last or 0) + 1

    def unfinished(self, migration_id: int) -> FlipRecord | None:
        """The flip that was begun and neither opened nor cancelled."""
        with self._control.transaction() as session:
            row = session.scalar(
                select(Flip).where(Flip.migration_id == migration_id, Flip.state == "intended")
            )
            return None if row is None else _flip(row)

    def age_ms(self, migration_id: int, flip_no: int) -> float:
        """Milliseconds since the flip was intended, by the control database's clock."""
        with self._control.transaction() as session:
            age = session.execute(
                select(func.clock_timestamp() - Flip.intended_at).where(
                    Flip.migration_id == migration_id, Flip.flip_no == flip_no
                )
            ).scalar_one()
            return float(age.total_seconds() * 1000)

    def record(
        self,
        lease: Lease,
        flip_no: int,
        state: str,
        *,
        pause_ms: float | None = None,
        attempts: int | None = None,
    ) -> None:
        """Journal how far a flip is."""
        values: dict[str, Any] = {"state": state}
        if pause_ms is not None:
            values["pause_ms"] = pause_ms
        if attempts is not None:
            values["attempts"] = attempts
        if state in ("opened", "cancelled"):
            values["finished_at"] = func.clock_timestamp()
        with self._control.transaction() as session:
            locked_migration(session, lease)
            session.execute(
                update(Flip)
                .where(Flip.migration_id == lease.migration, Flip.flip_no == flip_no)
                .values(values)
            )

    def flips(self, migration_id: int) -> Sequence[FlipRecord]:
        """All flips of a migration, in order."""
        with self._control.transaction() as session:
            rows = session.scalars(
                select(Flip).where(Flip.migration_id == migration_id).order_by(Flip.flip_no)
            )
            return [_flip(row) for row in rows]

    # -- gates ------------------------------------------------------------------------------------------

    def record_gate(
        self,
        lease: Lease,
        checkpoint: str,
        flip_no: int,
        *,
        passed: bool,
        evaluated: int,
        expected: int,
        failed: int,
        evidence_sha256: str,
        verdict: Mapping[str, Any],
        ttl_s: float,
        age_s: float = 0.0,
    ) -> int:
        """Store a verdict; returns its id.

        ``age_s``: how long ago its evidence was complete. The verdict lasts ``ttl_s`` from then, in seconds: to judge
        for long must not make old evidence fresh.
        """
        with self._control.transaction() as session:
            locked_migration(session, lease)
            row = GateRun(
                migration_id=lease.migration, checkpoint=checkpoint, flip_no=flip_no, passed=passed,
                evaluated=evaluated, expected=expected, failed=failed, evidence_sha256=evidence_sha256,
                verdict=dict(verdict), expires_at=func.clock_timestamp() + timedelta(seconds=ttl_s - max(0.0, age_s)),
            )  # fmt: skip
            session.add(row)
            session.flush()
            return row.id

    def require_gate(self, migration_id: int, checkpoint: str, flip_no: int) -> GateRecord:
        """The newest verdict for exactly this migration, checkpoint and flip, if it is a fresh go.

        Raises:
            GateRefused: there is none, it is a no, it is incomplete, or it is too old.
        """
        with self._control.transaction() as session:
            row = session.scalar(
                select(GateRun)
                .where(
                    GateRun.migration_id == migration_id,
                    GateRun.checkpoint == checkpoint,
                    GateRun.flip_no == flip_no,
                )
                .order_by(GateRun.id.desc())
                .limit(1)
            )
            now = session.scalar(select(func.clock_timestamp()))
            why = None
            remedy = (
                "Look at its verdict, mend what it names, and resume `migrate`: the checks are run again. "
                f"`foreshard check diff {migration_id}` shows rows that differ between two copies."
            )
            if row is None:
                why = "were not run for it"
                remedy = "Run the gate for this flip, as `migrate` does, and look at its verdict."
            elif not row.passed or row.failed or row.evaluated != row.expected or row.expected == 0:
                why = f"did not pass ({row.failed} failed, {row.evaluated} of {row.expected} evaluated)"
            elif now is None or row.expires_at <= now:
                why = "are too old"
                remedy = (
                    "Run the gate again for this flip; `migration.gate_ttl_s` says how long a verdict lasts."
                )
            if row is None or why is not None:
                raise GateRefused(
                    f"Migration {migration_id} may not go on: the {checkpoint} checks {why}.",
                    remedy=remedy,
                    migration=migration_id,
                    checkpoint=checkpoint,
                    flip=flip_no,
                )
            return _gate(row)

    def gates(self, migration_id: int) -> Sequence[GateRecord]:
        """All verdicts of a migration, in order."""
        with self._control.transaction() as session:
            rows = session.scalars(
                select(GateRun).where(GateRun.migration_id == migration_id).order_by(GateRun.id)
            )
            return [_gate(row) for row in rows]


def _next(session: Session, migration: Migration, from_bound: int, to_bound: int) -> FlipRecord:
    migration.flip_no += 1
    flip = Flip(
        migration_id=migration.id, flip_no=migration.flip_no, from_bound=from_bound, to_bound=to_bound
    )
    session.add(flip)
    session.flush()
    session.refresh(flip)
    return _flip(flip)


def _flip(row: Flip) -> FlipRecord:
    return FlipRecord(
        row.migration_id, row.flip_no, row.from_bound, row.to_bound, row.state, row.attempts, row.pause_ms,
        row.intended_at, row.finished_at,
    )  # fmt: skip


def _gate(row: GateRun) -> GateRecord:
    return GateRecord(
        row.id, row.checkpoint, row.flip_no, row.passed, row.evaluated, row.expected, row.failed,
        row.evidence_sha256, dict(row.verdict), row.made_at,
    )  # fmt: skip
