"""A real streaming standby whose receive can be held back, and a shard behind an address that can be failed over."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import make_conninfo

from foreshard.fleet.pgpass import HOST
from foreshard.fleet.server import SUPERUSER, PostgresServer, free_port
from foreshard.fleet.throwaway import ShardDatabase, ThrowawayServers
from tests.integration.breakable_proxy import BreakableProxy, Direction
from tests.integration.moving_fleet import wait_until

_numbers = itertools.count(1)


class Standby(PostgresServer):
    """A hot standby of ``primary``, connected through ``line``. It calls itself ``name`` (application_name).

    With ``slot`` the primary keeps WAL for it in a physical slot (``-`` in the name becomes ``_``).
    """

    def __init__(self, name: str, primary: PostgresServer, line: BreakableProxy, *, slot: bool) -> None:
        self.primary = primary
        self.line = line
        self.slot = name.replace("-", "_") if slot else None
        directory = primary.directory.parent / f"{name}-{next(_numbers)}"
        # The servers' account may not read our password file; this one is its own.
        self._passfile = directory / "pgpass"
        receive = make_conninfo(
            host=HOST,
            port=line.port,
            user=SUPERUSER,
            passfile=str(self._passfile),
            application_name=name,
        )
        settings = {
            **primary.extra_settings,
            "primary_conninfo": receive,
            "primary_slot_name": self.slot or "",
        }
        port = free_port({primary.port})
        super().__init__(
            name, directory, port, primary.binaries, primary.os_user, primary.passwords, settings
        )

    def initialise(self) -> None:
        """Take a base backup of the running primary, and the slot with it."""
        self.directory.mkdir(mode=0o700)
        self.os_user.give(self.directory)
        password = self.passwords.password(self.primary.port, SUPERUSER)
        self._write(self._passfile, f"{HOST}:*:*:{SUPERUSER}:{password}\n")
        if self.slot is not None:
            with self.primary.connect() as conn:
                conn.execute("SELECT pg_create_physical_replication_slot(%s, true)", (self.slot,))
        self.back_up(self.data_dir)
        self._write(self.data_dir / "standby.signal", "")
        self.passwords.copy_port(self.primary.port, self.port)

    def back_up(self, directory: Path, *options: str) -> None:
        """Take a base backup of the primary into ``directory``, which is not there yet."""
        source = make_conninfo(
            host=HOST, port=self.primary.port, user=SUPERUSER, passfile=str(self._passfile)
        )
        self._run(
            "pg_basebackup",
            [
                f"--dbname={source}",
                f"--pgdata={directory}",
                "--wal-method=stream",
                "--checkpoint=fast",
                "--no-sync",
                "--no-password",
                *options,
            ],
            f"{self.primary.name} could not be copied",
        )

    def hold_receive(self) -> None:
        """It stays connected and goes on reporting, but gets no more WAL until `release_receive`."""
        self.line.hold([Direction.TO_CLIENT])

    def release_receive(self) -> None:
        """It gets what was held back, and goes on."""
        self.line.release()

    @property
    def is_streaming(self) -> bool:
        """Whether the primary counts it among its standbys."""
        with self.primary.connect() as conn:
            query = "SELECT 1 FROM pg_stat_replication WHERE application_name = %s AND state = 'streaming'"
            return conn.execute(query, (self.name,)).fetchone() is not None

    def wait_until_level(self) -> None:
        """Wait until it has flushed all WAL that its primary has written up to now, without an asynchronous rest."""
        with self.primary.connect() as conn:
            # Switching the segment writes and flushes whatever asynchronous commits have left in the buffers.
            row = conn.execute("SELECT pg_switch_wal()").fetchone()
            assert row is not None
            query = (
                "SELECT 1 FROM pg_stat_replication WHERE application_name = %s AND state = 'streaming'"
                "  AND flush_lsn >= %s AND replay_lsn >= %s"
            )
            wait_until(
                lambda: conn.execute(query, (self.name, row[0], row[0])).fetchone() is not None,
                f"{self.name} is level with {self.primary.name}",
            )

    def promote(self) -> None:
        """Make it a primary; on return it takes writes. What was held back on its line never arrives."""
        with self.connect() as conn:
            promoted = conn.execute("SELECT pg_promote(true, 60)").fetchone()
            assert promoted == (True,), f"{self.name} was not promoted"
        self.line.cut()


@contextmanager
def standby_of(primary: PostgresServer, name: str, *, slot: bool = False) -> Iterator[Standby]:
    """A running standby of a running primary, level with it; gone with the block, its slot is not."""
    with BreakableProxy(primary.port) as line:
        standby = Standby(name, primary, line, slot=slot)
        try:
            standby.initialise()
            standby.start()
            standby.wait_until_level()
            yield standby
        finally:
            standby.kill9()
            shutil.rmtree(standby.directory, ignore_errors=True)


@dataclass(frozen=True)
class FailoverShard(ShardDatabase):
    """A shard on a server of its own with one standby, behind an address that `fail_over` moves to it."""

    address: BreakableProxy
    standby: Standby

    def dsn(self, role: str) -> str:
        """Through the address: the same string reaches whoever is primary."""
        return make_conninfo(self.server.dsn(role, self.database), port=self.address.port)

    @property
    def primary(self) -> PostgresServer:
        """Who serves behind the address now."""
        return self.standby if self.address.to_port == self.standby.port else self.server

    def fail_over(self) -> None:
        """The primary dies as by kill -9, the standby is promoted as it is and takes over the address."""
        self.server.kill9()
        self.promote_standby()

    def promote_standby(self) -> None:
        """The second half of `fail_over`; alone, the old primary lives on where the address does not lead."""
        self.standby.promote()
        self.address.point_to(self.standby.port)
        self.address.cut()


@contextmanager
def failover_shard(servers: ThrowawayServers, name: str, *, slot: bool = False) -> Iterator[FailoverShard]:
    """A fresh shard called ``name`` on a fresh server, its standby called ``name-standby``; gone with the block."""
    server_name = f"{name}-failover-{next(_numbers)}"
    database = servers.new_shard(server_name)
    try:
        with (
            BreakableProxy(database.server.port) as address,
            standby_of(database.server, f"{name}-standby", slot=slot) as standby,
        ):
            database.server.passwords.copy_port(database.server.port, address.port)
            yield FailoverShard(name, database.server, database.database, address, standby)
    finally:
        servers.discard(server_name)
