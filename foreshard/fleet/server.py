"""One PostgreSQL server in a data directory of its own: make, start, stop, find again after a crash."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg

from foreshard.errors import ForeshardError, ShardUnavailable
from foreshard.fleet.binaries import PostgresBinaries, tool_environment
from foreshard.fleet.os_user import OsUser
from foreshard.fleet.pgpass import HOST, PasswordFile

SUPERUSER = "postgres"
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30
INITDB_OPTIONS = (
    f"--username={SUPERUSER}",
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    "--no-sync",  # one that a power cut spoils at its birth can be made again
)
PG_CTL_OPTIONS = ("--wait", f"--timeout={START_TIMEOUT_S}", "--silent")
PORTS = range(17000, 32000)  # below what Linux gives to outgoing connections, so that a port stays free

# Sized for several migrations at once, each with a subscription either way and four workers that copy tables.
SETTINGS: Mapping[str, str] = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # a socket's path may have 107 bytes; a data directory's may be longer
    "password_encryption": "scram-sha-256",
    "wal_level": "logical",
    "max_replication_slots": "32",
    "max_wal_senders": "32",
    "max_worker_processes": "32",
    "max_logical_replication_workers": "24",
    "max_sync_workers_per_subscription": "4",
    "wal_retrieve_retry_interval": "500ms",  # how soon the next worker that copies a table is started
    "max_connections": "150",
    "shared_buffers": "64MB",  # five servers share one machine
    "max_wal_size": "1GB",
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    "jit": "off",
    "track_io_timing": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "log_line_prefix": "%m [%p] %q%u@%d %a ",
}

SETTINGS_SINCE: Mapping[int, Mapping[str, str]] = {
    18: {
        "max_active_replication_origins": "32"
    },  # before, as many as slots; one for each worker that copies a table
}
"""Settings that came with a major version; the servers before it do not start with them."""


@dataclass
class PostgresServer:
    """A server named ``name``. ``directory`` holds its data directory and log and belongs to ``os_user``.

    ``extra_settings`` win over the built-in ones. ``port`` may change between two starts.
    """

    name: str
    directory: Path
    port: int
    binaries: PostgresBinaries
    os_user: OsUser
    passwords: PasswordFile
    extra_settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def data_dir(self) -> Path:
        return self.directory / "data"

    @property
    def log_file(self) -> Path:
        return self.directory / "server.log"

    @property
    def is_initialised(self) -> bool:
        """Whether the data directory is there and complete."""
        return (self.data_dir / "PG_VERSION").is_file()

    @property
    def is_running(self) -> bool:
        return self.postmaster() is not None

    def dsn(self, role: str, database: str) -> str:
        """A libpq connection string that names the password file and holds no password."""
        return psycopg.conninfo.make_conninfo(
            host=HOST, port=self.port, user=role, dbname=database, passfile=str(self.passwords.path.resolve())
        )

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """A connection as superuser, in autocommit. Raises ``ShardUnavailable``."""
        try:
            return psycopg.connect(self.dsn(SUPERUSER, database), autocommit=True, connect_timeout=10)
        except psycopg.OperationalError as error:
            raise ShardUnavailable(f"{self.name} does not answer: {error}", shard=self.name) from error

    def initialise(self) -> None:
        """Make the data directory, unless it is there. What an interrupted attempt left is replaced."""
        if self.is_initialised:
            return
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.os_user.give(self.directory)
        # Made beside the data directory and renamed: a complete directory or none.
        half = self.directory / "data.new"
        shutil.rmtree(half, ignore_errors=True)
        shutil.rmtree(self.data_dir, ignore_errors=True)
        password_file = self.directory / "superuser"
        self._write(password_file, self.passwords.ensure(self.port, SUPERUSER) + "\n")
        try:
            self._run(
                "initdb",
                [f"--pgdata={half}", f"--pwfile={password_file}", *INITDB_OPTIONS],
                f"The data directory of {self.name} could not be made",
            )
        finally:
            password_file.unlink()
        with (half / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write("\ninclude 'foreshard.conf'\n")
        half.rename(self.data_dir)

    def start(self) -> None:
        """Start the server and wait until it takes connections; nothing happens if it runs already.

        Raises ``ForeshardError`` with the end of the server's log if it does not come up.
        """
        if self.is_running:
            return
        self._clear_stale_pid()
        settings = {**SETTINGS}
        for major, since in SETTINGS_SINCE.items():
            settings |= since if self.binaries.major >= major else {}
        settings |= {**self.extra_settings, "port": str(self.port)}
        lines = [f"{name} = '{value}'\n" for name, value in settings.items()]
        self._write(self.data_dir / "foreshard.conf", "".join(lines))
        self._run(
            "pg_ctl",
            ["start", f"--pgdata={self.data_dir}", f"--log={self.log_file}", *PG_CTL_OPTIONS],
            f"{self.name} did not start",
        )

    def stop(self) -> None:
        """Stop the server: clients are cut off, data is flushed. Nothing happens if it does not run."""
        postmaster = self.postmaster()
        if postmaster is None:
            return
        for request in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):  # fast, immediate, at last by force
            with contextlib.suppress(psutil.NoSuchProcess):
                postmaster.send_signal(request)
            if not _still_alive([postmaster], STOP_TIMEOUT_S):
                return

    def kill9(self) -> None:
        """Kill the postmaster outright, as a crash would; it is gone, and its children, on return."""
        postmaster = self.postmaster()
        if postmaster is not None:
            postmaster.kill()
            self._wait_for_children()

    def postmaster(self) -> psutil.Process | None:
        """The running postmaster of exactly this data directory, or None.

        The process id in ``postmaster.pid`` may since belong to somebody else: the process counts only if it
        works in this data directory, as every PostgreSQL process does in its own.
        """
        try:
            pid = int((self.data_dir / "postmaster.pid").read_text(encoding="utf-8").split("\n")[0])
            process = psutil.Process(pid)
            ours = self._works_here(process) and _is_alive(process)
        except (OSError, ValueError, psutil.Error):
            return None
        return process if ours else None

    def _clear_stale_pid(self) -> None:
        # A server refuses to start while backends of a killed one still live, or if another process of the
        # same account has since got the process id in the file.
        pid_file = self.data_dir / "postmaster.pid"
        if pid_file.exists():
            self._wait_for_children()
            pid_file.unlink()

    def _wait_for_children(self) -> None:
        alive = _still_alive([p for p in psutil.process_iter() if self._works_here(p)], STOP_TIMEOUT_S)
        if alive:
            raise ForeshardError(
                f"Processes of a killed {self.name} are still at work in {self.data_dir}.",
                remedy="Wait for them to end, or end them.",
                pids=[process.pid for process in alive],
            )

    def _works_here(self, process: psutil.Process) -> bool:
        try:
            return Path(process.cwd()) == self.data_dir.resolve()
        except (OSError, psutil.Error):
            return False

    def _write(self, path: Path, text: str) -> None:
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        self.os_user.give(path)

    def _run(self, tool: str, arguments: list[str], failure: str) -> None:
        try:
            done = self.os_user.run(
                [self.binaries.tool(tool), *arguments],
                # Subscriptions look for certificates in HOME; ours may be out of the account's reach.
                env={**tool_environment(), "HOME": str(self.directory)},
                cwd=self.directory,
                timeout=START_TIMEOUT_S + 10,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise ForeshardError(f"{failure}: {error}.", server=self.name) from error
        if done.returncode != 0:
            log = self.log_file.read_text(errors="replace").splitlines() if self.log_file.exists() else []
            report = " | ".join([*done.stdout.splitlines()[-5:], *log[-10:]])
            raise ForeshardError(f"{failure}: {report}", server=self.name, log=str(self.log_file))


def _still_alive(processes: list[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Those of ``processes`` that have not ended in time. A zombie has ended, even if nobody collects it."""
    deadline = time.monotonic() + timeout_s
    while True:
        processes = [process for process in processes if _is_alive(process)]
        if not processes or time.monotonic() > deadline:
            return processes
        time.sleep(0.01)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def port_is_free(port: int) -> bool:
    """Whether a server could listen at ``port`` of the loopback address now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as PostgreSQL does
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port(taken: set[int]) -> int:
    """A free port of the loopback address that is not in ``taken``. Another process may get it first."""
    for port in random.SystemRandom().sample(PORTS, 200):
        if port not in taken and port_is_free(port):
            return port
    raise ForeshardError(f"No free port was found between {PORTS.start} and {PORTS.stop}.")
