"""Verdicts of `verify`: begun, and passed, failed, or never made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update

from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_models import Verification
from foreshard.quantities import many


@dataclass(frozen=True)
class VerificationRecord:
    """One verification: of a migration, of one bucket of it, or of a bucket that does not move.

    ``finished_at`` and ``passed`` are None while it runs, and for ever where it could not be made: ``problem`` says why
    not. ``findings``: plain JSON, each with ``what``. ``seen``: what was looked at.
    """

    id: int
    migration: int | None
    bucket: str | None
    made_by: str
    begun_at: datetime
    finished_at: datetime | None
    passed: bool | None
    problem: str | None
    findings: Sequence[Mapping[str, Any]]
    seen: Mapping[str, Any]

    @property
    def in_words(self) -> str:
        """The verdict."""
        if self.passed is None:
            return f"could not be made: {self.problem}" if self.problem else "not finished"
        return "passed" if self.passed else f"failed, {many(len(self.findings), 'finding')}"


class VerificationStore:
    """Writes verdicts once, and tells them."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control

    def begin(self, migration_id: int | None, bucket: str | None, made_by: str) -> int:
        """A verification has begun; returns its number."""
        with self._control.transaction() as session:
            row = Verification(migration_id=migration_id, bucket=bucket, made_by=made_by)
            session.add(row)
            session.flush()
            return row.id

    def finish(
        self, number: int, findings: Sequence[Mapping[str, Any]], seen: Mapping[str, Any]
    ) -> VerificationRecord:
        """Its verdict: passed if nothing was found."""
        return self._end(
            number,
            finished_at=func.clock_timestamp(),
            passed=not findings,
            findings=[dict(one) for one in findings],
            seen=dict(seen),
        )

    def give_up(self, number: int, problem: str) -> VerificationRecord:
        """It could not be made, and why not: it neither passes nor fails."""
        return self._end(number, problem=problem)

    def of(self, migration_id: int, limit: int = 20) -> list[VerificationRecord]:
        """The newest of a migration, newest first."""
        with self._control.transaction() as session:
            rows = session.scalars(
                select(Verification)
                .where(Verification.migration_id == migration_id)
                .order_by(Verification.id.desc())
                .limit(limit)
            )
            return [_record(row) for row in rows]

    def failed(self, migration_id: int) -> VerificationRecord | None:
        """The verification that stands against a migration: one that failed, and none that finished since passed.

        That of a whole migration speaks for all its buckets; that of one bucket for this one.
        """
        with self._control.transaction() as session:
            rows = session.scalars(
                select(Verification)
                .where(Verification.migration_id == migration_id, Verification.finished_at.is_not(None))
                .order_by(Verification.id.desc())
            )
            newer: set[str] = set()
            for row in rows:
                if row.bucket in newer:
                    continue
                if not row.passed:
                    return _record(row)
                if row.bucket is None:
                    return None
                newer.add(row.bucket)
            return None

    def _end(self, number: int, **values: Any) -> VerificationRecord:
        with self._control.transaction() as session:
            row = session.scalars(
                update(Verification).where(Verification.id == number).values(**values).returning(Verification)
            ).one()
            return _record(row)


def _record(row: Verification) -> VerificationRecord:
    return VerificationRecord(
        row.id, row.migration_id, row.bucket, row.made_by, row.begun_at, row.finished_at, row.passed, row.problem,
        list(row.findings), dict(row.seen),
    )  # fmt: skip
