"""How far the query log of each shard was read, in the control database."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

from foreshard.control.engine import ControlDatabase
from foreshard.control.models import Base


class LogPosition(Base):
    """The position in one shard's log, as `load.query_log.reading` makes it: no text of a statement is in it."""

    __tablename__ = "log_positions"
    shard: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[dict[str, Any]]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class LogPositionStore:
    """Reads and writes positions."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control

    def position(self, shard: str) -> dict[str, Any] | None:
        """Where the next reading begins; None if the shard's log was never read."""
        with self._control.transaction() as session:
            row = session.get(LogPosition, shard)
            return None if row is None else dict(row.position)

    def put(self, shard: str, position: Mapping[str, Any]) -> None:
        """Keep a position."""
        values = {"position": dict(position), "updated_at": func.clock_timestamp()}
        with self._control.transaction() as session:
            session.execute(
                insert(LogPosition)
                .values(shard=shard, **values)
                .on_conflict_do_update(index_elements=[LogPosition.shard], set_=values)
            )
