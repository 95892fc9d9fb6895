"""Routers that are registered: who they are, and the epoch of the map that each has in use.

A row is a promise to the runners of migrations: when its lease is over, the router asks the shard before every read.
Until then it may believe the map of its epoch. Leases are told by the control database's clock alone.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Float, Interval, cast, delete, func, select, type_coerce, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError, OperationalError

from foreshard.control.engine import ControlDatabase
from foreshard.control.models import LONGEST_LEASE_S, RegisteredRouter
from foreshard.errors import InvalidInput, RegistrationRefused

LEASE_S = 10.0
CLOCK_RATE = 1.01
"""A router counts its lease by its own clock, which may run slower than the database's."""

KEPT = timedelta(hours=1)
"""For so long one that is silent can be looked at."""


@dataclass(frozen=True)
class RouterRecord:
    """A router as its row tells it. ``silent_s``: seconds since its heartbeat."""

    id: UUID
    application: str
    host: str
    pid: int
    lease_s: float
    epoch: int
    registered_at: datetime
    heartbeat_at: datetime
    silent_s: float
    live: bool
    """Its lease is not over."""

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.application} on {self.host} (pid {self.pid})"


class RouterStore:
    """Reads the routers; `registration` makes one."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control

    def registration(self, application: str, lease_s: float = LEASE_S) -> Registration:
        """The row of a router in this process. Nothing is written yet.

        Raises:
            InvalidInput: a lease that is none, or longer than 300 s.
        """
        if not 0 < lease_s <= LONGEST_LEASE_S:
            raise InvalidInput("lease_s", f"must be above 0 and at most {LONGEST_LEASE_S}, not {lease_s:g}.")
        return Registration(self._control, application, lease_s)

    def all(self) -> tuple[RouterRecord, ...]:
        """Live ones and those that were silent for less than an hour, by application, host and pid."""
        return self._where()

    def live(self) -> tuple[RouterRecord, ...]:
        """Those whose lease is not over."""
        return self._where(_expiry() > func.clock_timestamp())

    def waiting_for(self, epoch: int) -> tuple[RouterRecord, ...]:
        """Live ones that have not acknowledged ``epoch``.

        Asked after a transaction that raised the epoch was committed, it misses nobody who believes an older map: a
        router's heartbeat is committed before the map is read that it believes.
        """
        return self._where(_expiry() > func.clock_timestamp(), RegisteredRouter.epoch < epoch)

    def forget_silent(self) -> None:
        """Remove the rows of those that died without a word."""
        with self._control.transaction() as session:
            session.execute(delete(RegisteredRouter).where(_expiry() + KEPT < func.clock_timestamp()))

    def _where(self, *conditions: ColumnElement[bool]) -> tuple[RouterRecord, ...]:
        router = RegisteredRouter
        silent = func.extract("epoch", func.clock_timestamp() - router.heartbeat_at)
        with self._control.transaction() as session:
            rows = session.execute(
                select(router, cast(silent, Float), _expiry() > func.clock_timestamp())
                .where(*conditions)
                .order_by(router.application, router.host, router.pid, router.registered_at)
            ).all()
        return tuple(
            RouterRecord(
                row.id, row.application, row.host, row.pid, row.lease_s, row.epoch,
                row.registered_at, row.heartbeat_at, round(silent_s, 3), live,
            )
            for row, silent_s, live in rows
        )  # fmt: skip


class Registration:
    """One router's row. Every call is a transaction of its own, committed when it returns."""

    def __init__(self, control: ControlDatabase, application: str, lease_s: float) -> None:
        self._control = control
        self.id = uuid4()
        self.application = application
        self.lease_s = lease_s

    def beat(self, epoch: int) -> None:
        """Renew the lease, and say that the map of ``epoch`` is in use. The first beat makes the row.

        Raises:
            RegistrationRefused: the database answers that the row cannot be written.
        """
        row = {
            "id": self.id, "application": self.application, "host": socket.gethostname(), "pid": os.getpid(),
            "lease_s": self.lease_s, "epoch": epoch,
        }  # fmt: skip
        try:
            with self._control.transaction() as session:
                session.execute(
                    insert(RegisteredRouter)
                    .values(row)
                    .on_conflict_do_update(
                        index_elements=[RegisteredRouter.id],
                        set_={"epoch": epoch, "heartbeat_at": func.clock_timestamp()},
                    )
                )
        except OperationalError:  # it does not answer
            raise
        except DBAPIError as refused:
            raise RegistrationRefused(
                f"The control database does not register this router: {str(refused.orig).splitlines()[0]}.",
                remedy="`foreshard serve` of this version makes its table; then run there what "
                "`foreshard grants --sql --for application` prints, again.",
            ) from refused

    def acknowledge(self, epoch: int) -> None:
        """Say that the map of ``epoch`` is in use; the lease stays as it is."""
        with self._control.transaction() as session:
            session.execute(
                update(RegisteredRouter).where(RegisteredRouter.id == self.id).values(epoch=epoch)
            )

    def end(self) -> None:
        """Remove the row: this router reads nothing any more."""
        with self._control.transaction() as session:
            session.execute(delete(RegisteredRouter).where(RegisteredRouter.id == self.id))


def _expiry() -> ColumnElement[datetime]:
    lease = func.make_interval(0, 0, 0, 0, 0, 0, RegisteredRouter.lease_s * CLOCK_RATE)
    return RegisteredRouter.heartbeat_at + type_coerce(lease, Interval)
