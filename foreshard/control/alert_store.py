"""Alerts in the control database: which have begun and ended, and which of that was told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from foreshard.alerts.alert import Alert, AlertKind
from foreshard.control.alert_models import AlertRow
from foreshard.control.engine import ControlDatabase

KEPT = timedelta(days=30)
"""For so long an alert that is over can be looked at."""

_UNTOLD = (
    AlertRow.end_told_at.is_(None),
    or_(AlertRow.told_at.is_(None), AlertRow.ended_at.is_not(None)),
)


@dataclass(frozen=True)
class AlertRecord:
    """A stored alert. ``document``: title, subject, text, remedy, migration, shard, flow_run_id."""

    id: int
    key: str
    kind: AlertKind
    document: Mapping[str, Any]
    began_at: datetime
    ended_at: datetime | None
    told_at: datetime | None
    end_told_at: datetime | None


class AlertStore:
    """Reads and writes alerts."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control

    def lasting(self) -> frozenset[str]:
        """Keys of those that have begun and not ended."""
        with self._control.transaction() as session:
            return frozenset(session.scalars(select(AlertRow.key).where(AlertRow.ended_at.is_(None))))

    def put(self, present: Sequence[Alert]) -> None:
        """Begin those that are new, end those that are no more; the others stay as they were told."""
        with self._control.transaction() as session:
            session.execute(
                update(AlertRow)
                .where(AlertRow.ended_at.is_(None), AlertRow.key.not_in([one.key for one in present]))
                .values(ended_at=func.clock_timestamp())
            )
            for one in present:
                session.execute(
                    insert(AlertRow)
                    .values(key=one.key, kind=one.kind.value, document=_document(one))
                    .on_conflict_do_nothing(
                        index_elements=[AlertRow.key], index_where=AlertRow.ended_at.is_(None)
                    )
                )
            session.execute(delete(AlertRow).where(AlertRow.ended_at < func.clock_timestamp() - KEPT))

    def tell(self, say: Callable[[AlertRecord, bool], None]) -> None:
        """Call ``say(alert, over)`` for each onset, and then each end, that was not told yet; oldest first.

        Noted as told once ``say`` returns; what it raises ends this, and the rest is told the next time. Two callers at
        once do not tell the same.
        """
        untold = select(AlertRow.id).where(*_UNTOLD).order_by(AlertRow.id)
        with self._control.transaction() as session:
            numbers = session.scalars(untold).all()
        for number in numbers:
            for field, over in (("told_at", False), ("end_told_at", True)):
                with self._control.transaction() as session:
                    row = session.scalar(
                        select(AlertRow).where(AlertRow.id == number).with_for_update(skip_locked=True)
                    )
                    if row is None or getattr(row, field) is not None or (over and row.ended_at is None):
                        continue
                    say(_record(row), over)
                    setattr(row, field, session.scalar(select(func.clock_timestamp())))

    def all(self) -> list[AlertRecord]:
        """All that are kept, newest first."""
        with self._control.transaction() as session:
            return [_record(row) for row in session.scalars(select(AlertRow).order_by(AlertRow.id.desc()))]


def _document(one: Alert) -> dict[str, Any]:
    told = asdict(one) | {"title": one.title, "since": one.since.isoformat()}
    return {name: value for name, value in told.items() if name not in ("key", "kind")}


def _record(row: AlertRow) -> AlertRecord:
    return AlertRecord(
        row.id, row.key, AlertKind(row.kind), dict(row.document), row.began_at, row.ended_at, row.told_at,
        row.end_told_at,
    )  # fmt: skip
