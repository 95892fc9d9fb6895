"""What an error of a shard means for a transaction of which nothing has been committed. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import psycopg

from foreshard.errors import ForeshardError, RefusedWrite, ShardUnavailable, SpansOwners
from foreshard.topology.routing_map import Intent, Route

NOT_OWNER = "FS001"
SPANS_OWNERS = "FS002"
FAILED_OVER = "FS005"


class ShardDown(psycopg.OperationalError):
    """A shard that is not even asked any more."""


class Failure(Enum):
    """Why an attempt failed, and so what may help."""

    NOT_OWNER = auto()
    """The guard says that the other side owns the key: heal the map, go there."""
    GONE = auto()
    """The bucket is not there, or not to be read there: it has moved on, or the application's own mistake."""
    CONFLICT = auto()
    """A lock, a snapshot or several owners stood in the way: the same again may succeed."""
    CONNECTION = auto()
    """The shard does not answer, or the connection broke."""
    DOWN = auto()
    """The shard has not answered for longer than a call is patient: waiting for it helps nobody."""
    OTHER = auto()
    """The statement itself is at fault: trying again cannot help."""


_BY_SQLSTATE = {
    NOT_OWNER: Failure.NOT_OWNER,
    "3F000": Failure.GONE,  # invalid_schema_name
    "42P01": Failure.GONE,  # undefined_table
    "42501": Failure.GONE,  # insufficient_privilege: a copy that does not serve is closed to the application
    SPANS_OWNERS: Failure.CONFLICT,  # the bound moves on, and with it the owners
    FAILED_OVER: Failure.CONFLICT,  # until Foreshard has closed again on the promoted server
    "40001": Failure.CONFLICT,  # serialization_failure; the guard's answer to a snapshot older than the flip
    "40P01": Failure.CONFLICT,  # deadlock_detected
    "55P03": Failure.CONFLICT,  # lock_not_available: lock_timeout ran out
    "53300": Failure.CONNECTION,  # too_many_connections
    "57P01": Failure.CONNECTION,  # admin_shutdown
    "57P02": Failure.CONNECTION,  # crash_shutdown
    "57P03": Failure.CONNECTION,  # cannot_connect_now
}


def classify(error: psycopg.Error) -> Failure:
    """The failure behind ``error``, by SQLSTATE; an OperationalError without one is a broken connection."""
    if isinstance(error, ShardDown):
        return Failure.DOWN
    sqlstate = error.sqlstate
    if sqlstate is None:
        return Failure.CONNECTION if isinstance(error, psycopg.OperationalError) else Failure.OTHER
    if sqlstate.startswith("08"):
        return Failure.CONNECTION
    return _BY_SQLSTATE.get(sqlstate, Failure.OTHER)


def connection_lost(error: psycopg.Error, connection: psycopg.BaseConnection[Any]) -> bool:
    """Whether the server's session ended with this error, so that an answer to a COMMIT can be missing.

    A FATAL error is such an end although libpq may not have noticed yet that the socket is closed.
    """
    severity = error.diag.severity_nonlocalized
    return severity is None or severity in ("FATAL", "PANIC") or connection.closed


@dataclass(frozen=True)
class Refusal:
    """A guard's FS001: the bound that ``shard`` holds for the migration since its flip number ``flip``."""

    migration: int
    bucket: str
    shard: str
    peer: str
    is_target: bool
    bound: int
    flip: int

    @classmethod
    def read(cls, error: psycopg.Error, shard: str) -> Refusal | None:
        """The refusal in the error's DETAIL, or None if it cannot be read (a guard of another version)."""
        try:
            detail = json.loads(error.diag.message_detail or "")
            return cls(
                migration=int(detail["migration"]),
                bucket=str(detail["bucket"]),
                shard=shard,
                peer=str(detail["peer"]),
                is_target=detail["side"] == "target",
                bound=int(detail["bound"]),
                flip=int(detail["flip"]),
            )
        except (ValueError, KeyError, TypeError):
            return None


def given_up(error: psycopg.Error, where: Route, intent: Intent, attempts: int) -> ForeshardError:
    """What to raise when time is over and the last attempt ended with ``error``."""
    facts = {"shard": where.shard, "bucket": where.bucket, "sqlstate": error.sqlstate, "attempts": attempts}
    if intent is Intent.READ or classify(error) in (Failure.CONNECTION, Failure.DOWN):
        return ShardUnavailable(
            f"{where.shard} did not serve {where.bucket} in time; nothing was committed: {error}",
            remedy="Check that the shard runs and has connections free; the same call may be made again.",
            **facts,
        )
    if error.sqlstate == SPANS_OWNERS:
        return SpansOwners(
            f"The transaction writes keys of {where.bucket} with two owners; nothing was committed: {error}",
            remedy="Write one key in a transaction; or move buckets as a whole (migration.canary_percent = []).",
            **facts,
        )
    return RefusedWrite(
        f"No owner accepted the write to {where.bucket} in time; nothing was committed: {error}",
        remedy="The whole transaction may be made again; `Router.run` does so by itself.",
        **facts,
    )
