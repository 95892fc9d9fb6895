"""The right to drive a migration, as rows of the control database tell it.

A lease is taken under a new token and holds for a while. Whoever writes locks the migration's row and compares the
token first, so a holder whose lease was taken over changes nothing, however late it wakes up.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_models import Migration
from foreshard.errors import LeaseLost


@dataclass(frozen=True)
class Lease:
    """The right to drive one migration: held by one runner at a time, numbered by a token that only grows."""

    migration: int
    token: int
    holder: str


def locked_migration(session: Session, lease: Lease) -> Migration:
    """The migration's row, locked, if the lease is still the newest.

    Raises:
        LeaseLost: it is not.
    """
    row = session.get(Migration, lease.migration, with_for_update=True)
    if row is None or row.lease_token != lease.token:
        raise LeaseLost(
            f"Another runner took migration {lease.migration} over; this one stops.",
            migration=lease.migration,
            token=lease.token,
        )
    return row


def take_lease(session: Session, migration_id: int, holder: str, seconds: float, **values: Any) -> Lease:
    """The lease under a new token, if it is nobody's; ``values`` are written to the migration along with it.

    Raises:
        LeaseLost: another runner holds it.
    """
    token = session.execute(
        update(Migration)
        .where(
            Migration.id == migration_id,
            func.coalesce(Migration.lease_expires_at, Migration.created_at) <= func.clock_timestamp(),
        )
        .values(
            lease_token=Migration.lease_token + 1,
            lease_holder=holder,
            lease_expires_at=func.clock_timestamp() + timedelta(seconds=seconds),
            **values,
        )
        .returning(Migration.lease_token)
    ).scalar()
    if token is None:
        raise LeaseLost(
            f"Migration {migration_id} is driven by another runner.",
            remedy="Let it go on, or wait until its lease has expired.",
            migration=migration_id,
        )
    return Lease(migration_id, token, holder)


def driver(session: Session, migration_id: int) -> str | None:
    """Who drives the migration now; None if nobody does."""
    return session.scalar(
        select(Migration.lease_holder).where(
            Migration.id == migration_id, Migration.lease_expires_at > func.clock_timestamp()
        )
    )


def driver_of(control: ControlDatabase, migration_id: int) -> str | None:
    """The same, in a transaction of its own."""
    with control.transaction() as session:
        return driver(session, migration_id)
