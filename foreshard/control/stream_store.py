"""The newest figures of migrations' streams in the control database: whoever watches needs no shard."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert

from foreshard.control.engine import ControlDatabase
from foreshard.control.request_models import StreamReading


@dataclass(frozen=True)
class Reading:
    """Lag and kept WAL of both directions; None where there is no stream, or nobody can tell.

    ``lag_bytes``: WAL of the whole server that the reader has not confirmed. ``lag_s``: 0 once it has confirmed all.
    ``wal_bytes``: what the slots of that side make its server keep.
    """

    forward_lag_bytes: int | None
    forward_lag_s: float | None
    reverse_lag_bytes: int | None
    reverse_lag_s: float | None
    source_wal_bytes: int | None
    target_wal_bytes: int | None
    wal_budget_bytes: int


class StreamStore:
    """Reads and writes them."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control

    def keep(self, migration_id: int, reading: Reading) -> None:
        """Put the newest reading in the place of the one before."""
        values = {**asdict(reading), "read_at": func.clock_timestamp()}
        with self._control.transaction() as session:
            session.execute(
                insert(StreamReading)
                .values(migration_id=migration_id, **values)
                .on_conflict_do_update(index_elements=["migration_id"], set_=values)
            )

    def of(self, migration_id: int) -> tuple[datetime, Reading] | None:
        """The newest one, and when it was read."""
        with self._control.transaction() as session:
            row = session.get(StreamReading, migration_id)
            if row is None:
                return None
            return row.read_at, Reading(
                row.forward_lag_bytes, row.forward_lag_s, row.reverse_lag_bytes, row.reverse_lag_s,
                row.source_wal_bytes, row.target_wal_bytes, row.wal_budget_bytes,
            )  # fmt: skip
