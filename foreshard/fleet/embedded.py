"""The embedded fleet: five PostgreSQL servers on this machine, for the demo and for a first look.

It plays the administrator, too: it makes the databases, runs the grants, sets the passwords.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from psycopg import sql

from foreshard.errors import ForeshardError
from foreshard.fleet.binaries import find_binaries
from foreshard.fleet.grants import (
    APPLICATION,
    OPERATOR,
    SCHEDULER,
    SHADOW,
    control_grants_sql,
    grants_sql,
    set_password,
)
from foreshard.fleet.os_user import OsUser, server_user
from foreshard.fleet.pgpass import HOST, PasswordFile
from foreshard.fleet.server import SUPERUSER, PostgresServer, free_port, port_is_free
from foreshard.fleet.store import place_store, runnable_binaries

CONTROL = "control"
SHARDS = ("shard-1", "shard-2", "shard-3", "shard-4")
SERVERS = (CONTROL, *SHARDS)
CONTROL_DATABASE = "foreshard"
SCHEDULER_DATABASE = "prefect"
SHARD_DATABASE = "airline"
PASSWORD_FILE = "pgpass"

Progress = Callable[[float, str], None]
"""Told the fraction done, 0 to 1, and what is being done."""


@dataclass(frozen=True)
class ServerStatus:
    """One server of the fleet as it is now. ``pid`` is the postmaster's, None when it does not run."""

    name: str
    port: int
    pid: int | None
    data_dir: Path
    log_file: Path


@dataclass(frozen=True)
class _Pointer:
    """``fleet.json``: what must be remembered between two commands."""

    store: Path
    user: OsUser
    ports: Mapping[str, int]

    @classmethod
    def read(cls, path: Path) -> _Pointer | None:
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            return cls(Path(facts["store"]), OsUser(facts["uid"], facts["gid"]), dict(facts["ports"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise ForeshardError(
                f"{path} cannot be read.", remedy="Remove the directory it is in and start again."
            ) from error

    def write(self, path: Path) -> None:
        facts = {
            "store": str(self.store),
            "uid": self.user.uid,
            "gid": self.user.gid,
            "ports": dict(self.ports),
        }
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        fresh.replace(path)


class EmbeddedFleet:
    """The servers ``control`` and ``shard-1`` .. ``shard-4``, remembered in ``state_dir``.

    Every method may be called in any state: after a crash, a kill, a half-finished start, or a second time.
    """

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir.resolve()
        self.passwords = PasswordFile(self.state_dir / PASSWORD_FILE)

    def up(self, progress: Progress = lambda *_: None) -> None:
        """Make what is missing and start what does not run. Data that is there stays."""
        with self._locked():
            pointer = self._with_free_ports(self._pointer() or self._new_pointer())
            servers = self._servers(pointer)
            # Two at a time: initdb is the work of one core.
            with ThreadPoolExecutor(2) as pool:
                for done, name in enumerate(pool.map(self._start, servers), start=1):
                    progress(done / len(servers), f"{name} is up")

    def down(self, *, wipe: bool = False) -> None:
        """Stop the servers; with ``wipe`` also delete their data, the passwords and all else of the fleet."""
        if not self.state_dir.is_dir():
            return
        with self._locked():
            pointer = self._pointer()
            if pointer is None:
                return
            _stop(self._servers(pointer))
            if wipe:
                shutil.rmtree(pointer.store)
                self._pointer_file.unlink()
                self.passwords.path.unlink(missing_ok=True)

    def status(self) -> tuple[ServerStatus, ...]:
        """The servers as they are now; empty if there is no fleet."""
        return tuple(
            ServerStatus(
                server.name,
                server.port,
                postmaster.pid if (postmaster := server.postmaster()) else None,
                server.data_dir,
                server.log_file,
            )
            for server in self.servers()
        )

    def servers(self) -> tuple[PostgresServer, ...]:
        """The servers, running or not; empty if there is no fleet."""
        pointer = self._pointer()
        return self._servers(pointer) if pointer else ()

    def server(self, name: str) -> PostgresServer:
        """The server of that name. Raises ``ForeshardError`` if there is none."""
        for server in self.servers():
            if server.name == name:
                return server
        raise ForeshardError(f"There is no embedded server {name!r}.", remedy="Is the fleet up?")

    def control_dsn(self) -> str:
        """The control database, as the operator."""
        return self.server(CONTROL).dsn(OPERATOR, CONTROL_DATABASE)

    def scheduler_url(self) -> str:
        """Prefect's database, as SQLAlchemy and asyncpg want it; it names the password file too."""
        port, passfile = self.server(CONTROL).port, self.passwords.path
        return f"postgresql+asyncpg://{SCHEDULER}@{HOST}:{port}/{SCHEDULER_DATABASE}?passfile={quote(str(passfile))}"

    def operator_dsn(self, shard: str) -> str:
        """A shard's database, as the role that migrates."""
        return self.server(shard).dsn(OPERATOR, SHARD_DATABASE)

    def application_dsn(self, shard: str) -> str:
        """A shard's database, as the role that reads and writes rows."""
        return self.server(shard).dsn(APPLICATION, SHARD_DATABASE)

    def _start(self, server: PostgresServer) -> str:
        if server.is_initialised and self.passwords.password(server.port, SUPERUSER) is None:
            raise ForeshardError(
                f"The superuser's password of {server.name} is no longer in {self.passwords.path}.",
                remedy="Delete the fleet (foreshard down --wipe) and start again.",
            )
        server.initialise()
        server.start()
        self._prepare(server)
        return server.name

    def _prepare(self, server: PostgresServer) -> None:
        """The administrator's part: databases, grants, passwords."""
        control = server.name == CONTROL
        databases = (CONTROL_DATABASE, SCHEDULER_DATABASE) if control else (SHARD_DATABASE,)
        roles = (OPERATOR, SCHEDULER) if control else (OPERATOR, APPLICATION, SHADOW)
        with server.connect() as conn:
            for database in databases:
                known = conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone()
                if known is None:
                    conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
        with server.connect(databases[0]) as conn:
            script = control_grants_sql() if control else grants_sql(database=SHARD_DATABASE)
            conn.execute(script.encode())
            for role in roles:
                set_password(conn, role, self.passwords.ensure(server.port, role))

    def _servers(self, pointer: _Pointer) -> tuple[PostgresServer, ...]:
        binaries = runnable_binaries(find_binaries(), pointer.user, pointer.store)
        return tuple(
            PostgresServer(
                name, pointer.store / name, pointer.ports[name], binaries, pointer.user, self.passwords
            )
            for name in SERVERS
        )

    @property
    def _pointer_file(self) -> Path:
        return self.state_dir / "fleet.json"

    def _pointer(self) -> _Pointer | None:
        pointer = _Pointer.read(self._pointer_file)
        if pointer and os.geteuid() not in (0, pointer.user.uid):
            raise ForeshardError(
                f"The fleet of {self.state_dir} was made by another user.",
                remedy="Work as that user, or delete the fleet as that user: foreshard down --wipe.",
            )
        return pointer

    def _new_pointer(self) -> _Pointer:
        user = server_user()
        ports: dict[str, int] = {}
        for name in SERVERS:
            ports[name] = free_port(set(ports.values()))
        pointer = _Pointer(place_store(self.state_dir, user), user, ports)
        # Servers whose state directory was deleted by hand: without its passwords nobody can use them.
        orphans = self._servers(pointer)
        _stop(orphans)
        for server in orphans:
            shutil.rmtree(server.directory, ignore_errors=True)
        self.passwords.path.unlink(missing_ok=True)
        pointer.write(self._pointer_file)
        return pointer

    def _with_free_ports(self, pointer: _Pointer) -> _Pointer:
        """``pointer``, with a new port for each stopped server whose own was taken meanwhile."""
        ports = dict(pointer.ports)
        for server in self._servers(pointer):
            if not server.is_running and not port_is_free(server.port):
                ports[server.name] = free_port(set(ports.values()))
                self.passwords.copy_port(server.port, ports[server.name])
        settled = _Pointer(pointer.store, pointer.user, ports)
        settled.write(self._pointer_file)
        return settled

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One command at a time works on the fleet; the next one waits."""
        self.state_dir.mkdir(parents=True, exist_ok=True)
        with (self.state_dir / "fleet.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _stop(servers: Iterable[PostgresServer]) -> None:
    with ThreadPoolExecutor(len(SERVERS)) as pool:
        list(pool.map(PostgresServer.stop, servers))
