"""A session that writes a copy as replication would: its writes flow back nowhere and fire no trigger of its own side.

Both sides of a migration read each other with ``origin = none``: what a session with a replication origin writes is
not sent (DESIGN section 5, hole 1). ``session_replication_role = replica`` lets it past the guard, which refuses the
keys of the other side, and past foreign keys and triggers: what they did, they did at the owner.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import errors

from foreshard.errors import ForeshardError
from foreshard.postgres.connect import NOTICE_OUR_END, Connection, server_name, sql_file
from foreshard.postgres.names import MigrationNames
from foreshard.postgres.pair import pinned_session


@contextmanager
def repair_session(conninfo: str, names: MigrationNames) -> Iterator[Connection]:
    """The session, closed at the end; its origin is made before and dropped after it.

    Raises:
        ForeshardError: our role may not use origins here, or another repair of this migration has its own.
        ShardUnavailable: the server does not answer.
    """
    with pinned_session(conninfo) as session:
        require_rights(session, conninfo)
        session.execute("SET default_transaction_read_only = off")
        session.execute(NOTICE_OUR_END)
        session.execute("SELECT set_config('application_name', %s, false)", (names.repair_origin,))
        _take_origin(session, names)
        try:
            session.execute("SET session_replication_role = replica")
            yield session
        finally:
            if not session.broken:
                _give_origin_back(session, names)


def require_rights(session: Connection, conninfo: str) -> None:
    """Our role may make an origin, write under it, and act as replication does.

    Raises:
        ForeshardError: it may not; says what gives the right.
    """
    missing = [str(right) for (right,) in session.execute(sql_file("repair_rights.sql"))]
    if missing:
        raise ForeshardError(
            f"A repair on {server_name(conninfo)} needs rights that our role lacks: {', '.join(missing)}. Without them "
            "its writes would flow back to the owner of the rows.",
            remedy="Run what `foreshard grants --sql` prints on that shard once more, as superuser.",
            missing=missing,
        )


def drop_origin(conn: Connection, names: MigrationNames) -> None:
    """What a repair that died has left. Idempotent; nothing to do for a role that may not even ask to drop one."""
    name = names.repair_origin
    if conn.execute("SELECT FROM pg_replication_origin WHERE roname = %s", (name,)).fetchone() is not None:
        conn.execute("SELECT pg_replication_origin_drop(%s)", (name,))


def _give_origin_back(session: Connection, names: MigrationNames) -> None:
    session.execute("SELECT pg_replication_origin_session_reset()")
    drop_origin(session, names)


def _take_origin(session: Connection, names: MigrationNames) -> None:
    name = names.repair_origin
    session.execute(
        "SELECT pg_replication_origin_create(%s)"
        " WHERE NOT EXISTS (SELECT FROM pg_replication_origin WHERE roname = %s)",
        (name, name),
    )
    try:
        session.execute("SELECT pg_replication_origin_session_setup(%s)", (name,))
    except errors.ObjectInUse as busy:
        raise ForeshardError(
            f"Another repair of {names.schema} is under way.", remedy="Wait until it has ended.", origin=name
        ) from busy
    except errors.ConfigurationLimitExceeded as full:
        raise ForeshardError(
            "The server has no replication origin left for a repair.",
            remedy="Raise max_replication_slots (max_active_replication_origins in 18 and later).",
        ) from full
