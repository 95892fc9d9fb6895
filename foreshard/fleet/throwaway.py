"""Servers and shards that last as long as a test run or a benchmark.

Each process has its own servers, started when first asked for, and each test fresh databases on them: logical
slots, publications and subscriptions belong to a database. Roles belong to a server and are made once, by the
script that an administrator runs.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psycopg
from psycopg import sql

from foreshard.fleet.binaries import PostgresBinaries, binaries_of, find_binaries
from foreshard.fleet.grants import APPLICATION, OPERATOR, OWNER, SHADOW, grants_sql, set_password
from foreshard.fleet.os_user import server_user
from foreshard.fleet.pgpass import PasswordFile
from foreshard.fleet.server import SUPERUSER, PostgresServer, free_port
from foreshard.fleet.store import runnable_binaries

# Tests kill servers, but no test cuts the power: without fsync they take half the time.
SETTINGS = {"fsync": "off", "max_prepared_transactions": "10", "shared_buffers": "32MB"}


@dataclass(frozen=True)
class ShardDatabase:
    """A fresh database with the grants applied on ``server``: what Foreshard sees as a shard."""

    name: str
    server: PostgresServer
    database: str

    def dsn(self, role: str) -> str:
        """How ``role`` reaches it."""
        return self.server.dsn(role, self.database)

    @property
    def operator_dsn(self) -> str:
        return self.dsn(OPERATOR)

    @property
    def application_dsn(self) -> str:
        return self.dsn(APPLICATION)

    @property
    def superuser_dsn(self) -> str:
        return self.dsn(SUPERUSER)

    def connect(self, role: str = SUPERUSER) -> psycopg.Connection[tuple[object, ...]]:
        """A connection as ``role``, in autocommit."""
        return psycopg.connect(self.dsn(role), autocommit=True)


@dataclass(frozen=True)
class ShardPair:
    """Two shards on two servers."""

    source: ShardDatabase
    target: ShardDatabase


class ThrowawayServers:
    """Servers in a temporary directory; a context manager that stops and deletes them at its end.

    ``settings`` are those of every server; the default is for tests, not for measurements.
    """

    def __init__(self, settings: Mapping[str, str] = SETTINGS) -> None:
        self._settings = settings
        # Not below a private directory of the caller: the account of the servers must be able to enter.
        self.directory = Path(tempfile.mkdtemp(prefix="foreshard-throwaway-"))
        self.directory.chmod(0o755)
        self._user = server_user()
        self._binaries: dict[int | None, PostgresBinaries] = {}
        self._passwords = PasswordFile(self.directory / "pgpass")
        self._servers: dict[str, PostgresServer] = {}
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers.values():
            server.kill9()
        shutil.rmtree(self.directory)

    def server(self, name: str, major: int | None = None) -> PostgresServer:
        """The server of that name, running: made at the first call, started again if it was killed.

        ``major``: PostgreSQL's version, for one that is to be made; None is the one that `find_binaries` finds.
        """
        if name not in self._servers:
            port = free_port({server.port for server in self._servers.values()})
            server = PostgresServer(
                name,
                self.directory / name,
                port,
                self._programs(major),
                self._user,
                self._passwords,
                self._settings,
            )
            server.initialise()
            self._servers[name] = server
        self._servers[name].start()
        return self._servers[name]

    def new_shard(
        self, name: str, major: int | None = None, *, server_name: str | None = None
    ) -> ShardDatabase:
        """A fresh shard on the server ``name``. Its owner is the superuser; the operator has what was granted.

        ``server_name``: that of a server which several shards share; ``major`` as for `server`.
        """
        server = self.server(server_name or name, major)
        database = self._create_database(server)
        with server.connect(database) as conn:
            conn.execute(grants_sql(database=database).encode())
            # The application of tests makes its schemas itself; Foreshard does not need this.
            conn.execute(
                sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(
                    sql.Identifier(database), sql.Identifier(OWNER)
                )
            )
            for role in (OPERATOR, APPLICATION, SHADOW):
                self._ensure_password(conn, server, role)
        return ShardDatabase(name, server, database)

    def new_control_database(self) -> str:
        """A fresh, empty database that the operator owns, on the server ``control``: its connection string."""
        server = self.server("control")
        database = self._create_database(server)
        operator = sql.Identifier(OPERATOR)
        with server.connect(database) as conn:
            if conn.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [OPERATOR]).fetchone() is None:
                conn.execute(sql.SQL("CREATE ROLE {} LOGIN").format(operator))
            self._ensure_password(conn, server, OPERATOR)
            conn.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(database), operator))
        return server.dsn(OPERATOR, database)

    def discard(self, name: str) -> None:
        """Kill a server and delete it with all its databases: one that was failed over is of no more use."""
        server = self._servers.pop(name)
        server.kill9()
        shutil.rmtree(server.directory)

    def unsubscribe(self, name: str, database: str) -> None:
        """Drop the database's subscriptions, so that no worker of it comes back to a slot on another server."""
        with self.server(name).connect(database) as conn:
            _drop_subscriptions(conn)

    def drop(self, name: str, database: str) -> None:
        """Drop a database of the server ``name`` with all that would keep it: clients, subscriptions, slots."""
        server = self.server(name)
        self.unsubscribe(name, database)
        with server.connect(database) as conn:
            for (gid,) in conn.execute(
                "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"
            ).fetchall():
                conn.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)))
        with server.connect() as conn:
            conn.execute(
                "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots"
                " WHERE database = %s AND active",
                [database],
            )
            conn.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s",
                [database],
            )
            conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))

    def _programs(self, major: int | None) -> PostgresBinaries:
        if major not in self._binaries:
            found = find_binaries() if major is None else binaries_of(major)
            self._binaries[major] = runnable_binaries(found, self._user, self.directory)
        return self._binaries[major]

    def _create_database(self, server: PostgresServer) -> str:
        database = f"database_{next(self._numbers)}"
        with server.connect() as conn:
            conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
        return database

    def _ensure_password(
        self, conn: psycopg.Connection[tuple[object, ...]], server: PostgresServer, role: str
    ) -> None:
        if self._passwords.password(server.port, role) is None:
            set_password(conn, role, self._passwords.ensure(server.port, role))


def _drop_subscriptions(conn: psycopg.Connection[tuple[object, ...]]) -> None:
    left = conn.execute(
        "SELECT subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid"
        " WHERE datname = current_database()"
    ).fetchall()
    for (subscription,) in left:
        # Without the name of its slot it can be dropped even when the publisher is gone.
        name = sql.Identifier(str(subscription))
        conn.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(name))
        conn.execute(sql.SQL("ALTER SUBSCRIPTION {} SET (slot_name = NONE)").format(name))
        conn.execute(sql.SQL("DROP SUBSCRIPTION {}").format(name))
