"""Which rows people had mended: written before and after each batch, never changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_models import Repair, RepairedRows


@dataclass(frozen=True)
class Target:
    """The table that is written, on which shard."""

    shard: str
    bucket: str
    table: str


@dataclass(frozen=True)
class RepairNote:
    """What was done with some rows. ``what``: intended, inserted, updated, deleted, equal, left.

    An ``intended`` that nothing follows was cut off: its rows are as they were, or mended. ``keys`` in words.
    """

    repair: int
    migration: int
    said_by: str
    at: datetime
    shard: str
    bucket: str
    table: str
    what: str
    keys: tuple[str, ...]
    why: str


class RepairStore:
    """Notes repairs, and tells of them."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control

    def begin(self, migration_id: int, said_by: str) -> int:
        """A new repair, by whose word; returns its number."""
        with self._control.transaction() as session:
            row = Repair(migration_id=migration_id, said_by=said_by)
            session.add(row)
            session.flush()
            return row.id

    def note(self, repair: int, target: Target, what: str, keys: Sequence[str], why: str = "") -> None:
        """What is about to be done, or was done, with some rows."""
        with self._control.transaction() as session:
            session.add(
                RepairedRows(
                    repair_id=repair, shard=target.shard, bucket=target.bucket, table=target.table,
                    what=what, keys=list(keys), why=why,
                )
            )  # fmt: skip

    def of(self, migration_id: int) -> list[RepairNote]:
        """Everything of a migration, in order."""
        with self._control.transaction() as session:
            rows = session.execute(
                select(Repair, RepairedRows)
                .join(RepairedRows, RepairedRows.repair_id == Repair.id)
                .where(Repair.migration_id == migration_id)
                .order_by(RepairedRows.id)
            )
            return [
                RepairNote(
                    repair.id, repair.migration_id, repair.said_by, row.at, row.shard, row.bucket, row.table,
                    row.what, tuple(row.keys), row.why,
                )
                for repair, row in rows.tuples()
            ]  # fmt: skip
