"""A PgBouncer in front of one server, pooling transactions; none is made where the program is not installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from psycopg.conninfo import make_conninfo

from foreshard.errors import ForeshardError
from foreshard.fleet.grants import APPLICATION
from foreshard.fleet.os_user import server_user
from foreshard.fleet.server import free_port
from foreshard.fleet.throwaway import ShardDatabase

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
HOST = "127.0.0.1"
PATIENCE_S = 10.0
INI = """
[databases]
{database} = host={host} port={server} dbname={database}
[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = transaction
default_pool_size = 8
"""


@contextmanager
def pgbouncer(shard: ShardDatabase, directory: Path) -> Iterator[str]:
    """The application's connection string by way of it. ``directory``: for its files, not there yet."""
    assert PROGRAM is not None, "pgbouncer is not installed"
    user = server_user()  # it refuses to run as root, as the servers do
    password = shard.server.passwords.password(shard.server.port, APPLICATION)
    port = free_port({shard.server.port})
    directory.mkdir(mode=0o700)
    user.give(directory)
    files = {
        "users.txt": f'"{APPLICATION}" "{password}"\n',
        "pgbouncer.ini": INI.format(
            database=shard.database,
            host=HOST,
            server=shard.server.port,
            port=port,
            users=directory / "users.txt",
        ),
    }
    for name, text in files.items():
        (directory / name).write_text(text, encoding="utf-8")
        user.give(directory / name)
    process = subprocess.Popen(
        [PROGRAM, "--quiet", str(directory / "pgbouncer.ini")],
        cwd="/",
        env={"PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        user=None if user.is_caller else user.uid,
        group=None if user.is_caller else user.gid,
        extra_groups=None if user.is_caller else (),
    )
    try:
        _await(process, port)
        shard.server.passwords.copy_port(shard.server.port, port)
        yield make_conninfo(shard.application_dsn, port=port)
    finally:
        process.kill()
        process.wait()


def _await(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and process.poll() is None:
        with suppress(OSError), socket.create_connection((HOST, port), 1):
            return
        time.sleep(0.05)
    raise ForeshardError("PgBouncer did not start.")
