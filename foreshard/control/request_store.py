"""What people asked of migrations, in the control database. `foreshard.migration.requests` says what counts.

Asking locks the migration's row, as every write of its driver does: a request and a change of stage never pass each
other unseen.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from foreshard.control.engine import ControlDatabase
from foreshard.control.lease import Lease, driver, locked_migration
from foreshard.control.migration_models import Migration
from foreshard.control.request_models import Request
from foreshard.errors import Interrupted, InvalidInput, NotFound
from foreshard.migration.lifecycle import Stage
from foreshard.migration.requests import Ask, Outcome, Ruling, Way, rule

RESUME = "resume"
"""What a paused migration waits for."""


@dataclass(frozen=True)
class RequestRecord:
    """One request. ``held_at``: since when a pause holds; ``outcome`` None: open."""

    id: int
    migration: int
    kind: Ask
    asked_by: str
    way: Way
    comment: str
    stage: Stage
    carrier: str | None
    asked_at: datetime
    held_at: datetime | None
    outcome: Outcome | None
    settled_at: datetime | None
    settled_by: str | None
    settlement: str

    @property
    def in_words(self) -> str:
        """One line, without a full stop at its end: it stands within sentences."""
        why = f": {self.comment.removesuffix('.')}" if self.comment else ""
        return f"{self.kind}, asked by {self.asked_by} at {self.asked_at:%H:%M:%S} UTC{why}"


class RequestStore:
    """Reads and writes requests."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control

    def ask(
        self, migration_id: int, kind: Ask, who: str, comment: str, way: Way, *, carrier: str | None = None
    ) -> tuple[RequestRecord, Ruling]:
        """Store a request, if it is possible; returns the one that stands now (of a resume: the pause that is over).

        A pause of a migration that nobody drives holds at once.

        Raises:
            InvalidInput: nobody's name.
            NotFound: no such migration.
            IllegalTransition: impossible, and why.
        """
        if not who.strip():
            raise InvalidInput("who", "is empty.", remedy="Say who asks; it is kept with the migration.")
        with self._control.transaction() as session:
            row = session.get(Migration, migration_id, with_for_update=True)
            if row is None:
                raise NotFound(
                    f"There is no migration {migration_id}.", remedy="`foreshard status` lists migrations."
                )
            present = _open(session, migration_id)
            open_kind = None if present is None else Ask(present.kind)
            ruling = rule(migration_id, Stage(row.stage), open_kind, kind)
            if ruling is Ruling.SAME:
                assert present is not None
                return _record(present), ruling
            made = Request(
                migration_id=migration_id, kind=kind.value, asked_by=who.strip(), way=way.value,
                comment=comment.strip(), stage=row.stage, carrier=carrier,
            )  # fmt: skip
            if present is not None:
                outcome = Outcome.RESUMED if ruling is Ruling.RESUMES else Outcome.REPLACED
                _settle(session, present, outcome, who.strip(), comment.strip() or f"by {kind}")
                session.flush()  # before the other one is open
            if kind is Ask.RESUME:
                _settle(session, made, Outcome.DONE, who.strip(), "")
            session.add(made)
            session.flush()
            if driver(session, migration_id) is None:
                hold_undriven(session, row)
                session.flush()
            session.refresh(made)
            standing = present if kind is Ask.RESUME and present is not None else made
            return _record(standing), ruling

    def open(self, migration_id: int) -> RequestRecord | None:
        """The open request of a migration."""
        with self._control.transaction() as session:
            row = _open(session, migration_id)
            return None if row is None else _record(row)

    def all_open(self) -> dict[int, RequestRecord]:
        """The open requests of all migrations, by migration."""
        with self._control.transaction() as session:
            rows = session.scalars(select(Request).where(Request.outcome.is_(None)))
            return {row.migration_id: _record(row) for row in rows}

    def get(self, request_id: int) -> RequestRecord:
        """One request."""
        with self._control.transaction() as session:
            return _record(session.get_one(Request, request_id))

    def of(self, migration_id: int) -> list[RequestRecord]:
        """All requests of a migration, in order."""
        with self._control.transaction() as session:
            rows = session.scalars(
                select(Request).where(Request.migration_id == migration_id).order_by(Request.id)
            )
            return [_record(row) for row in rows]

    def hold(self, lease: Lease, request_id: int) -> bool:
        """Note that the migration stands still for this pause; False if it is not open any more.

        Raises:
            LeaseLost: the lease is another's now.
        """
        with self._control.transaction() as session:
            locked_migration(session, lease)
            row = session.get_one(Request, request_id, with_for_update=True)
            if row.outcome is not None:
                return False
            if row.held_at is None:
                row.held_at = _now(session)
            return True

    def refuse(self, lease: Lease, request_id: int, why: str) -> None:
        """Settle a request that turned out to be impossible.

        Raises:
            LeaseLost: the lease is another's now.
        """
        with self._control.transaction() as session:
            locked_migration(session, lease)
            row = session.get_one(Request, request_id, with_for_update=True)
            if row.outcome is None:
                _settle(session, row, Outcome.REFUSED, lease.holder, why)


def hold_undriven(session: Session, row: Migration) -> None:
    """Within the transaction in which nobody drives it (any more): a pause that is open holds it from now on."""
    asked = _open(session, row.id)
    if asked is not None and asked.kind == Ask.PAUSE:
        asked.held_at = asked.held_at or _now(session)
        row.waiting_for = row.waiting_for or RESUME


def settle_at_end(session: Session, migration_id: int, end: Stage, by: str) -> None:
    """Within the end's transaction: a request to give back is done by it, any other is overtaken."""
    row = _open(session, migration_id)
    if row is not None:
        done = Ask(row.kind).gives_back and end is not Stage.DONE
        _settle(session, row, Outcome.DONE if done else Outcome.OVERTAKEN, by, f"the migration is {end}")


def refuse_to_pass(session: Session, migration_id: int) -> None:
    """Within the transaction of the last stage without a way back.

    Raises:
        Interrupted: somebody asked for something meanwhile, which could not be done any more from there.
    """
    row = _open(session, migration_id)
    if row is not None:
        raise interrupted(_record(row))


def interrupted(asked: RequestRecord) -> Interrupted:
    """What stops a step."""
    return Interrupted(
        f"Migration {asked.migration} was asked to stop ({asked.in_words}).",
        remedy=f"`foreshard watch {asked.migration}` shows what becomes of it; a pause ends with `foreshard resume`.",
        request=asked.id,
        asked=asked.kind.value,
        by=asked.asked_by,
    )


def _open(session: Session, migration_id: int) -> Request | None:
    return session.scalar(
        select(Request).where(Request.migration_id == migration_id, Request.outcome.is_(None))
    )


def _settle(session: Session, row: Request, outcome: Outcome, by: str, text: str) -> None:
    row.outcome, row.settled_by, row.settlement = outcome.value, by, text
    row.settled_at = _now(session)


def _now(session: Session) -> datetime:
    now: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
    return now


def _record(row: Request) -> RequestRecord:
    return RequestRecord(
        id=row.id, migration=row.migration_id, kind=Ask(row.kind), asked_by=row.asked_by, way=Way(row.way),
        comment=row.comment, stage=Stage(row.stage), carrier=row.carrier, asked_at=row.asked_at, held_at=row.held_at,
        outcome=None if row.outcome is None else Outcome(row.outcome), settled_at=row.settled_at,
        settled_by=row.settled_by, settlement=row.settlement,
    )  # fmt: skip
