"""A real PgBouncer in front of throwaway shards, as an administrator sets it up; where it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from foreshard.fleet.grants import APPLICATION, set_password
from foreshard.fleet.os_user import server_user
from foreshard.fleet.server import free_port
from foreshard.fleet.throwaway import ShardDatabase, ShardPair
from tests.integration.moving_fleet import wait_until

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
HOST = "127.0.0.1"
ADMIN = "console"

needs_pgbouncer = pytest.mark.skipif(
    PROGRAM is None, reason="no pgbouncer is installed (Debian has a package)"
)


class PgBouncerServer:
    """A context manager. Clients and servers are known by an auth_file. Its directory goes with it."""

    def __init__(self, pair: ShardPair, aliases: str) -> None:
        # Not below pytest's: whoever starts another pytest closes those to the account that PgBouncer runs as.
        self.directory = directory = Path(tempfile.mkdtemp(prefix="foreshard-pgbouncer-"))
        self.port = free_port(set())
        self.include = directory / "foreshard.ini"
        self._user = server_user()
        self._process: subprocess.Popen[bytes] | None = None
        self._changed: list[tuple[ShardDatabase, str]] = []
        directory.chmod(0o755)
        self.include.write_text(aliases)
        words = {ADMIN: "let-me-in"}
        for shard in (pair.source, pair.target):
            word = shard.server.passwords.password(shard.server.port, APPLICATION)
            assert word is not None
            words.setdefault(APPLICATION, word)
            if word != words[APPLICATION]:  # one user, one password, on all shards
                self._changed.append((shard, word))
                with shard.connect() as conn:
                    set_password(conn, APPLICATION, words[APPLICATION])
        users = directory / "users.txt"
        users.write_text("".join(f'"{name}" "{word}"\n' for name, word in words.items()))
        self.passfile = directory / "pgpass"
        self.passfile.write_text("".join(f"*:*:*:{name}:{word}\n" for name, word in words.items()))
        self.passfile.chmod(0o600)
        said = {
            "listen_addr": HOST,
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": users,
            "admin_users": ADMIN,
            "pool_mode": "session",  # the aliases say otherwise
            "ignore_startup_parameters": "extra_float_digits",
        }
        lines = [
            f"%include {self.include}",
            "[pgbouncer]",
            *(f"{name} = {value}" for name, value in said.items()),
        ]
        (directory / "pgbouncer.ini").write_text("\n".join(lines) + "\n")

    @property
    def name(self) -> str:
        """As messages name it."""
        return f"{HOST}:{self.port}/pgbouncer"

    @property
    def admin(self) -> str:
        return make_conninfo(
            host=HOST, port=self.port, dbname="pgbouncer", user=ADMIN, passfile=str(self.passfile)
        )

    def dsn(self, alias: str) -> str:
        return make_conninfo(
            host=HOST, port=self.port, dbname=alias, user=APPLICATION, passfile=str(self.passfile)
        )

    def connect(self, alias: str) -> psycopg.Connection[tuple[object, ...]]:
        """A client in autocommit; without prepared statements, as transaction pooling wants it."""
        return psycopg.connect(self.dsn(alias), autocommit=True, prepare_threshold=None)

    def console(self, command: str) -> list[dict[str, object]]:
        with psycopg.connect(self.admin, autocommit=True) as conn:
            cursor = conn.execute(command.encode())
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor] if names else []

    def paused(self) -> list[str]:
        return sorted(str(one["name"]) for one in self.console("SHOW DATABASES") if one["paused"])

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    def __enter__(self) -> PgBouncerServer:
        self.start()
        return self

    def start(self) -> None:
        assert PROGRAM is not None
        self._process = subprocess.Popen(
            [PROGRAM, str(self.directory / "pgbouncer.ini")],
            stdin=subprocess.DEVNULL,
            stdout=(self.directory / "log").open("ab"),
            stderr=subprocess.STDOUT,
            cwd="/",
            env={"PATH": os.environ["PATH"]},
            start_new_session=True,
            user=None if self._user.is_caller else self._user.uid,
            group=None if self._user.is_caller else self._user.gid,
            extra_groups=None if self._user.is_caller else (),
        )
        wait_until(self._answers, f"PgBouncer: {self.log}")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log
        try:
            self.console("SHOW VERSION")
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.directory)
        for shard, word in self._changed:  # other tests use these servers
            with shard.connect() as conn:
                set_password(conn, APPLICATION, word)
