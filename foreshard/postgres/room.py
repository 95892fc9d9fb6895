"""How much room a server has: WAL that slots keep, and free disk."""

from __future__ import annotations

import ipaddress
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from foreshard.postgres.connect import Connection, sql_file
from foreshard.postgres.replication_slots import expression


@dataclass(frozen=True)
class Slot:
    """What a slot keeps. ``wal_status`` as in pg_replication_slots.

    ``safe_bytes``: WAL that may still be written before the slot is in danger, and ``keep_bytes``: the server's
    max_slot_wal_keep_size; both None where it sets no limit. ``retained_bytes`` is None once the slot is lost.
    ``lag_bytes``: WAL that its reader has not confirmed; ``lag_s``: how late it is, None without a reader.
    """

    name: str
    wal_status: str
    retained_bytes: int | None
    safe_bytes: int | None
    keep_bytes: int | None
    lag_bytes: int | None = None
    lag_s: float | None = None


@dataclass(frozen=True)
class Disk:
    """Free bytes for the server's data, None if nobody can tell. ``how``: ``measured``, ``declared``, ``unknown``."""

    free_bytes: int | None
    how: str


def slots(conn: Connection, names: Sequence[str]) -> list[Slot]:
    """Those of the named slots that stand on this server; a name may come from `subscriptions.sync_slots`."""
    wanted = [expression(name) for name in names]
    return [Slot(*row) for row in conn.execute(sql_file("slots_room.sql"), {"slots": wanted})]


def wal_position(conn: Connection) -> int:
    """Bytes of WAL that this server has written in its life."""
    row = conn.execute("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint").fetchone()
    assert row is not None  # a SELECT without FROM has one row
    return int(row[0])


def free_disk(conn: Connection, declared_bytes: float | None) -> Disk:
    """Measured if the server's files are on this machine and readable; else what was declared minus what is there.

    Counts the file systems of the data directory and of its WAL; not those of tablespaces.
    """
    measured = _measured(conn)
    if measured is not None:
        return Disk(measured, "measured")
    if declared_bytes is None:
        return Disk(None, "unknown")
    row = conn.execute(
        "SELECT (SELECT sum(pg_database_size(oid)) FROM pg_database)::bigint"
        "     + (SELECT sum(size) FROM pg_ls_waldir())::bigint"
    ).fetchone()
    return Disk(None, "unknown") if row is None else Disk(int(declared_bytes) - int(row[0]), "declared")


def _measured(conn: Connection) -> int | None:
    if not _on_this_host(conn):
        return None
    row = conn.execute(
        "SELECT current_setting('data_directory'), system_identifier FROM pg_control_system()"
    ).fetchone()
    assert row is not None  # the function returns one row
    directory = Path(row[0])
    try:
        # A loopback port may be forwarded to another machine, which has another directory of that name.
        with (directory / "global" / "pg_control").open("rb") as file:
            (identifier,) = struct.unpack("=Q", file.read(8))
        if identifier != row[1] % 2**64:
            return None
        found = [os.statvfs(path) for path in (directory, directory / "pg_wal")]
    except (OSError, struct.error):
        return None
    return min(one.f_bavail * one.f_frsize for one in found)


def _on_this_host(conn: Connection) -> bool:
    if conn.info.host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(conn.info.hostaddr or conn.info.host).is_loopback
    except ValueError:
        return False
